//! The inspection as one JSON object. Times are RFC 3339, absent values are null.

use std::path::{Path, PathBuf};

use rustls_reload::{
    Inspection, Timestamp,
    internal::{covered_certificates, crl, der},
};
use serde_json::{Value, json};
use tokio_rustls::rustls::pki_types::{CertificateDer, CertificateRevocationListDer};

use super::{Way, name, role, ways};
use crate::status::{error, warning};

/// Returns what `check` found; `result` is `passed`, `warnings` or `refused`, as the exit code
/// says.
pub(super) fn of(inspection: &Inspection) -> Value {
    let Inspection { sizes, chain, key, matched, client_cas, rehearsed, warnings, refused, .. } = inspection;
    let result = match refused {
        Some(_) => "refused",
        None if warnings.is_empty() => "passed",
        None => "warnings",
    };
    json!({
        "result": result,
        "refused": refused.as_ref().map(error),
        "warnings": warnings.iter().map(warning).collect::<Vec<_>>(),
        "paths": ways(inspection).iter().map(way).collect::<Vec<_>>(),
        "sizes": sizes,
        "chain": certificates("chain", chain),
        "key": key,
        // Without a comparison the rehearsed handshake decides.
        "match": matched.map(|compared| if compared { "compared" } else { "left to the rehearsal" }),
        "client_cas": certificates("client-ca", client_cas),
        "crls": crls(inspection),
        "rehearsed": rehearsed,
        "watched": inspection.watched.iter().map(|dir| text(dir)).collect::<Vec<_>>(),
        "unwatched": inspection.unwatched.iter().map(|dir| text(dir)).collect::<Vec<_>>(),
    })
}

fn way(way: &Way<'_>) -> Value {
    let link = |(link, target): &(&Path, &Path)| json!({ "path": text(link), "target": text(target) });
    json!({
        "path": text(way.path),
        "links": way.links.iter().map(link).collect::<Vec<_>>(),
        "end": way.end.map(text),
        "kind": way.kind,
    })
}

fn certificates(label: &str, certificates: &[CertificateDer<'_>]) -> Vec<Value> {
    let certificate = |(place, certificate): (usize, &CertificateDer<'_>)| {
        let fields = der::fields(certificate)?;
        Some(json!({
            "role": role(label, place, &fields),
            "subject": name(fields.subject),
            "issuer": name(fields.issuer),
            "names": fields.names,
            "serial": der::serial_hex(fields.serial),
            "not_before": Timestamp(fields.not_before).to_string(),
            "not_after": Timestamp(fields.not_after).to_string(),
            "must_staple": fields.must_staple,
        }))
    };
    // The load has parsed every one of them already.
    certificates.iter().enumerate().filter_map(certificate).collect()
}

fn crls(inspection: &Inspection) -> Vec<Value> {
    let list = |(path, list): &(PathBuf, CertificateRevocationListDer<'_>)| {
        let fields = crl::fields(list)?;
        Some(json!({
            "path": text(path),
            "issuer": name(fields.issuer),
            "number": fields.number.map(der::serial_hex),
            "this_update": Timestamp(fields.this_update).to_string(),
            "next_update": fields.next_update.map(|next| Timestamp(next).to_string()),
            "covers": covered_certificates(&fields),
            "revoked": fields.revoked.len(),
        }))
    };
    inspection.crls.iter().filter_map(list).collect()
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
