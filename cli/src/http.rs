//! Answers of the server: `/`, `/status`, `/metrics` and `/healthz`.

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue},
};
use rustls_reload::{Published, ServerReloader, ServerTls, Status, Timestamp};

use crate::{
    counters::Counters,
    metrics::{Form, METRICS},
    status,
};

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// Answers one request of a connection whose handshake used `served`.
///
/// An `outdated` client may not be trusted any more. It may send the request again over a new
/// connection, whatever the method (RFC 9110 section 15.5.20).
pub(crate) fn answer<B>(
    request: &Request<B>,
    served: &Published<ServerTls>,
    outdated: bool,
    reloader: &ServerReloader,
    counters: &Counters,
) -> Response<Full<Bytes>> {
    let mut response = if outdated {
        let text = "the trusted client CAs or CRLs changed: connect again\n";
        plain(StatusCode::MISDIRECTED_REQUEST, TEXT, text.to_owned())
    } else {
        content(request, served, reloader, counters)
    };
    // hyper leaves the body out over HTTP/1.1 alone.
    if request.method() == Method::HEAD {
        *response.body_mut() = Full::default();
    }
    response
}

fn content<B>(
    request: &Request<B>,
    served: &Published<ServerTls>,
    reloader: &ServerReloader,
    counters: &Counters,
) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD\n".to_owned());
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match request.uri().path() {
        "/" => plain(StatusCode::OK, TEXT, connection(served)),
        "/status" => {
            let mut json = status::to_json(&reloader.status());
            counters.to_json().into_iter().for_each(|(key, value)| json[key] = value);
            plain(StatusCode::OK, JSON, format!("{json:#}\n"))
        }
        "/metrics" => {
            counters.measure();
            let accept = request.headers().get_all(ACCEPT).iter();
            let form = Form::preferred(accept.filter_map(|value| value.to_str().ok()));
            plain(StatusCode::OK, form.content_type(), METRICS.render(form))
        }
        "/healthz" => match unhealthy(&reloader.status()) {
            None => plain(StatusCode::OK, TEXT, "ok\n".to_owned()),
            Some(why) => plain(StatusCode::SERVICE_UNAVAILABLE, TEXT, why),
        },
        _ => {
            plain(StatusCode::NOT_FOUND, TEXT, "not found: try /, /status, /metrics or /healthz\n".to_owned())
        }
    }
}

/// Returns why the next change of the files would not be served; `None` if it would.
fn unhealthy(status: &Status) -> Option<String> {
    match status.stalled_since {
        _ if !status.running => Some("reloading does not run: no change of the files is served\n".to_owned()),
        Some(since) => {
            Some(format!("reloading hangs: no snapshot of the files has ended since {}\n", Timestamp(since)))
        }
        None => None,
    }
}

/// Describes the configuration of this connection, which a reload does not change.
fn connection(served: &Published<ServerTls>) -> String {
    let leaf = &served.value.leaf;
    format!(
        "generation: {}\nfingerprint: {}\nserial: {}\nnot_after: {}\n",
        served.generation,
        leaf.fingerprint,
        leaf.serial,
        Timestamp(leaf.not_after),
    )
}

fn plain(status: StatusCode, kind: &'static str, text: String) -> Response<Full<Bytes>> {
    let length = HeaderValue::from(text.len());
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CONTENT_LENGTH, length);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // reason: a test
mod tests {
    use std::{fs, time::Duration};

    use hyper::body::Body;
    use rustls_reload::ServerReloader;

    use super::*;
    use crate::testkit::{Authority, PrivateKey, Subject};

    fn reloader() -> (tempfile::TempDir, ServerReloader) {
        let dir = tempfile::tempdir().unwrap();
        let (chain, key) = (dir.path().join("tls.crt"), dir.path().join("tls.key"));
        let pair = Authority::root("CA").issue(&Subject::server("localhost"), &PrivateKey::p256());
        fs::write(&chain, &pair.chain).unwrap();
        fs::write(&key, &pair.key).unwrap();
        let reloader = ServerReloader::builder(&chain, &key).load().unwrap();
        (dir, reloader)
    }

    /// Over h2, a body after the answer to HEAD is an error of the protocol.
    #[test]
    fn answer_to_head_is_that_to_get_without_its_body() {
        let (_dir, reloader) = reloader();
        let (served, counters) = (reloader.current(), Counters::new(1));
        for path in ["/", "/status", "/metrics", "/healthz", "/none"] {
            for outdated in [false, true] {
                let [get, head] = [Method::GET, Method::HEAD].map(|method| {
                    let request = Request::builder().method(method).uri(path).body(()).unwrap();
                    answer(&request, &served, outdated, &reloader, &counters)
                });
                assert_eq!(get.status() == StatusCode::MISDIRECTED_REQUEST, outdated);
                assert_eq!(
                    (get.status(), &get.headers()[CONTENT_TYPE]),
                    (head.status(), &head.headers()[CONTENT_TYPE])
                );
                let length = get.headers()[CONTENT_LENGTH].to_str().unwrap().parse().ok();
                assert_eq!(get.body().size_hint().exact(), length);
                assert_eq!(head.body().size_hint().exact(), Some(0), "{path}, {outdated}");
            }
        }
    }

    /// Checks: INV-15, INV-16.
    #[test]
    fn inv15_healthz_says_why_the_next_change_is_not_taken() {
        let (_dir, reloader) = reloader();
        let mut status = reloader.status();
        assert_eq!(unhealthy(&status).unwrap(), "reloading does not run: no change of the files is served\n");
        status.running = true;
        assert_eq!(unhealthy(&status), None);
        status.stalled_since = Some(Duration::from_secs(1_700_000_000));
        let why = "reloading hangs: no snapshot of the files has ended since 2023-11-14T22:13:20Z\n";
        assert_eq!(unhealthy(&status).unwrap(), why);
    }
}
