//! Checks that no text about a damaged key contains a window of the key (INV-10).

use super::{
    Script, seeds,
    served::{self, Role},
};
use rustls_reload::internal::pem;

/// Limit of edits of one input; more would take long and find nothing new.
const EDIT_LIMIT: usize = 32;

/// Text that labels and headers of a key file are made of.
const WORDS: [&str; 12] = [
    "-----BEGIN ",
    "-----END ",
    "-----",
    "PRIVATE KEY-----\n",
    "ENCRYPTED PRIVATE KEY",
    "CERTIFICATE-----\n",
    "EC PARAMETERS",
    "Proc-Type: 4,ENCRYPTED\n",
    "\r\n",
    " ",
    "=",
    "\u{feff}",
];

/// Edits a key file as the input says, and uses it as any file of a server. No text may contain a
/// window of the key.
///
/// # Panics
/// If one does.
pub fn redaction(data: &[u8]) {
    let mut script = Script(data);
    let keys = seeds::keys();
    let (key, windows) = &keys[usize::from(script.byte()) % keys.len()];
    let role = script.pick(&[Role::Key, Role::Chain, Role::ClientCa]);
    let text = edited(key.as_bytes(), &mut script);
    let parsed = pem::key(&text);
    let mut output = format!("{parsed:?} {:?}", parsed.as_ref().err().map(ToString::to_string));
    for error in [pem::chain(&text).err(), pem::ca_bundle(&text).err()].into_iter().flatten() {
        output.push_str(&format!("{error} {error:?}"));
    }
    output.push_str(&served::reported(role, &text));
    assert!(!windows.occur_in(output.as_bytes()), "a window of the key is reported");
}

fn edited(key: &[u8], script: &mut Script<'_>) -> Vec<u8> {
    let mut text = key.to_vec();
    for _ in 0..EDIT_LIMIT {
        if script.is_over() || text.len() > 4 * key.len() {
            break;
        }
        let kind = script.byte();
        let at = script.below(text.len() + 1);
        let end = (at + usize::from(script.byte())).min(text.len());
        match kind % 6 {
            0 => drop(text.drain(at..end)),
            1 => text.insert(at, script.byte()),
            2 => drop(text.splice(at..at, script.pick(&WORDS).bytes())),
            3 => text.truncate(at),
            4 => {
                let again = text[at..end].to_vec();
                let to = script.below(text.len() + 1);
                drop(text.splice(to..to, again));
            }
            _ => text[at..end].make_ascii_uppercase(),
        }
    }
    text
}
