//! The three answers of the server.

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue},
};
use rustls_reload::{Handle, Published, ServerTls, Timestamp};

use crate::status;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// Answers one request of a connection that was shaken with `served`.
pub(crate) fn answer<B>(
    request: &Request<B>,
    served: &Published<ServerTls>,
    handle: &Handle<ServerTls>,
) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD\n".to_owned());
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let mut response = match request.uri().path() {
        "/" => plain(StatusCode::OK, TEXT, connection(served)),
        "/status" => {
            let text = format!("{:#}\n", status::to_json(&handle.status()));
            plain(StatusCode::OK, JSON, text)
        }
        "/healthz" if handle.status().running => plain(StatusCode::OK, TEXT, "ok\n".to_owned()),
        "/healthz" => plain(StatusCode::SERVICE_UNAVAILABLE, TEXT, "the files are not watched\n".to_owned()),
        _ => plain(StatusCode::NOT_FOUND, TEXT, "not found: try /, /status or /healthz\n".to_owned()),
    };
    if request.method() == Method::HEAD {
        *response.body_mut() = Full::default();
    }
    response
}

/// What this connection was served; a reload does not change it.
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
