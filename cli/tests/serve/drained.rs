//! Tests which connections end when a client CA is removed, and which go on.
//! Checks: INV-08, INV-09.
//!
//! The server does not ask which CA a connection was verified with. Once trust has shrunk, it ends
//! every connection of a client that showed a certificate under the larger trust. A connection
//! without a client certificate goes on, and a renewal or a larger trust ends none.

use std::{io::Read, net::TcpStream, process::Stdio, sync::Arc};

use rustls::{
    ClientConfig, ClientConnection,
    version::{TLS12, TLS13},
};

use crate::{
    Server,
    common::{DEADLINE, Generation, NamedFile, Volume, client_showing, generations},
    process::{Stream, ask, begin_request, command, end_request},
};

fn files<'a>(of: &'a Generation, bundle: &'a str) -> [NamedFile<'a>; 3] {
    let [chain, key, _] = of.files();
    [chain, key, ("ca.crt", bundle.as_bytes())]
}

/// A connection before the server has answered the client's first message.
struct Begun(ClientConnection, TcpStream);

impl Begun {
    fn new(address: &str, client: &Arc<ClientConfig>) -> Self {
        let mut connection =
            ClientConnection::new(Arc::clone(client), "localhost".try_into().unwrap()).unwrap();
        let mut socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        connection.write_tls(&mut socket).unwrap();
        // The server answers once it has accepted the connection, with the trust of that moment.
        assert_eq!(socket.peek(&mut [0]).unwrap(), 1);
        Self(connection, socket)
    }

    fn end(self) -> Stream {
        let Self(mut connection, mut socket) = self;
        while connection.is_handshaking() {
            connection.complete_io(&mut socket).unwrap();
        }
        Stream::new(connection, socket)
    }
}

/// Asserts that the server closes the connection by itself, in order.
fn ends(mut stream: Stream, what: &str) {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap_or_else(|why| panic!("{what}: {why}"));
    assert!(rest.is_empty(), "{what}: {}", String::from_utf8_lossy(&rest));
}

#[test]
fn inv09_reduced_trust_ends_client_connections_and_no_others() {
    let all = generations(3);
    let bundle = |of: &[&Generation]| of.iter().map(|one| one.ca.pem.as_str()).collect::<String>();
    let [first, second, third] = &all[..] else { panic!("three generations") };
    let mut volume = Volume::new(&files(first, &bundle(&[first, second])));
    let mut command = command(&volume.dir(), &[], "127.0.0.1:0");
    command.arg("--client-ca").arg(volume.path("ca.crt")).args(["--client-auth", "optional"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut server = Server::run(command);
    let address = server.address();
    let config = |shown, version| client_showing(&[first, second, third], shown, &[version]);
    let mut open = Vec::new();
    for version in [&TLS12, &TLS13] {
        for (who, shown) in [("nobody", None), ("of the first", Some(first)), ("of the second", Some(second))]
        {
            let mut stream = Begun::new(&address, &config(shown, version)).end();
            assert!(ask(&mut stream, "/").contains("generation: 1\n"));
            open.push((format!("{who}, {version:?}"), shown.is_some(), stream));
        }
    }
    let goes_on = |open: &mut Vec<(String, bool, Stream)>, when: &str| {
        for (who, _, stream) in open {
            assert!(ask(stream, "/").contains("generation: 1\n"), "{when}: {who}");
        }
    };
    // Publishes a renewal, and then a larger trust.
    volume.publish(&files(second, &bundle(&[first, second])));
    server.line("CONFIG:RELOADED ");
    goes_on(&mut open, "a renewal");
    volume.publish(&files(second, &bundle(&[first, second, third])));
    server.line("CONFIG:RELOADED ");
    goes_on(&mut open, "a larger trust");
    // One connection is half-way through its handshake, and one waits for the answer to its
    // request.
    let begun = Begun::new(&address, &config(Some(second), &TLS13));
    let mut asks = Begun::new(&address, &config(Some(second), &TLS13)).end();
    begin_request(&mut asks);
    volume.publish(&files(second, &bundle(&[first, third])));
    server.line("trust shrank ");
    let (known, mut unknown): (Vec<_>, Vec<_>) = open.into_iter().partition(|(_, known, _)| *known);
    for (who, _, stream) in known {
        ends(stream, &who);
    }
    goes_on(&mut unknown, "a smaller trust");
    ends(begun.end(), "half-way through its handshake");
    let answer = end_request(&mut asks);
    assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
    // A connection that was accepted under the smaller trust goes on.
    let mut again = Begun::new(&address, &config(Some(first), &TLS13)).end();
    assert!(ask(&mut again, "/").contains("generation: 4\n"));
    volume.publish(&files(first, &bundle(&[first, third])));
    server.line("CONFIG:RELOADED ");
    assert!(ask(&mut again, "/").contains("generation: 4\n"));
    goes_on(&mut unknown, "another renewal");
}
