//! Damage that can happen to any text file: cut, overwritten, garbled, encoded differently, or
//! another file altogether.

use rustls_reload::{Layer, internal::snapshot::FILE_LIMIT};

use super::{
    Expect::{self, Refused, Served},
    Vector,
    set::{CA, CRT, KEY},
};
use crate::common::armor::base64;

const FILES: [&str; 3] = [CRT, KEY, CA];

/// The layer that refuses damaged sections.
const SECTIONS: [Layer; 3] = [Layer::Pem; 3];
/// The layer that refuses damaged base64.
const BASE64: [Layer; 3] = [Layer::Pem, Layer::Key, Layer::Pem];
/// The layer that refuses damaged content within the base64.
const CONTENT: [Layer; 3] = [Layer::Chain, Layer::Key, Layer::ClientCa];

type Edit = fn(&str) -> Vec<u8>;

pub(crate) fn vectors() -> Vec<Vector> {
    let mut all = Vec::new();
    for (what, layers, edit) in refused() {
        for (file, layer) in FILES.into_iter().zip(layers) {
            all.push(Vector::file(file, what, Refused(layer, file), move |set| edit(set.get(file))));
        }
    }
    for (what, edit) in served() {
        for file in FILES {
            all.push(Vector::file(file, what, Served, move |set| edit(set.get(file))));
        }
    }
    for (what, text) in others() {
        let is_known = ["a certification request", "a CRL", "a public key"].contains(&what);
        for file in FILES {
            // Known PEM without a key is refused because the key is missing.
            let layer = if file == KEY && is_known { Layer::Key } else { Layer::Pem };
            all.push(Vector::file(file, what, Refused(layer, file), |_| text.to_vec()));
        }
    }
    all.extend(of_one_file());
    all
}

/// Returns a text with its lines changed.
fn lines(text: &str, change: impl FnOnce(&mut Vec<&str>)) -> Vec<u8> {
    let mut lines: Vec<&str> = text.lines().collect();
    change(&mut lines);
    (lines.join("\n") + "\n").into_bytes()
}

fn utf16(text: &str, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
    text.encode_utf16().flat_map(bytes).collect()
}

/// Replaces the first occurrence of `from`. The base64 in each file begins with `MI`.
fn in_first_block(text: &str, from: &str, to: &str) -> Vec<u8> {
    text.replacen(from, to, 1).into_bytes()
}

fn refused() -> Vec<(&'static str, [Layer; 3], Edit)> {
    vec![
        // A write that has not ended, or never will.
        ("empty", SECTIONS, |_| Vec::new()),
        ("white space only", SECTIONS, |_| b" \n\t\r\n".to_vec()),
        ("a byte order mark only", SECTIONS, |_| b"\xef\xbb\xbf".to_vec()),
        ("cut within the first line", SECTIONS, |text| text[..10].into()),
        ("cut after the first line", SECTIONS, |text| text[..=text.find('\n').unwrap()].into()),
        ("cut within the base64", SECTIONS, |text| text[..100].into()),
        ("cut at the end of a line of base64", SECTIONS, |text| lines(text, |lines| lines.truncate(2))),
        ("cut before the last line", SECTIONS, |text| lines(text, |lines| lines.truncate(lines.len() - 1))),
        ("cut within the last line", SECTIONS, |text| text.trim_end()[..text.trim_end().len() - 3].into()),
        ("cut behind the first dashes of the last line", SECTIONS, |text| {
            let mut cut = lines(text, |lines| lines.truncate(lines.len() - 1));
            cut.extend(b"--");
            cut
        }),
        ("the first byte missing", SECTIONS, |text| text[1..].into()),
        ("the first line missing", SECTIONS, |text| lines(text, |lines| _ = lines.remove(0))),
        // Remains of a write after a crash, or of the previous file.
        ("NULs as long as the content", SECTIONS, |text| vec![0; text.len()]),
        ("NULs before the content", SECTIONS, |text| [&[0; 8], text.as_bytes()].concat()),
        ("NULs from the first lines on", SECTIONS, |text| {
            let (half, rest) = text.as_bytes().split_at(150);
            [half, &vec![0; rest.len()]].concat()
        }),
        ("NULs within the base64", BASE64, |text| in_first_block(text, "MI", "\0\0")),
        ("the end of a longer file behind it", SECTIONS, |text| {
            [text, &text[text.len() - 90..]].concat().into()
        }),
        ("the last line twice", SECTIONS, |text| lines(text, |lines| lines.push(lines[lines.len() - 1]))),
        ("the first line twice", SECTIONS, |text| lines(text, |lines| lines.insert(0, lines[0]))),
        ("a line of base64 missing", CONTENT, |text| lines(text, |lines| _ = lines.remove(1))),
        ("a line of base64 twice", CONTENT, |text| lines(text, |lines| lines.insert(1, lines[1]))),
        ("two lines of base64 exchanged", CONTENT, |text| lines(text, |lines| lines.swap(1, 2))),
        // Damaged base64.
        ("a letter of base64 that is none", BASE64, |text| in_first_block(text, "MI", "M*")),
        ("a letter of another base64", BASE64, |text| in_first_block(text, "MI", "M-")),
        ("a letter that is not ASCII", BASE64, |text| in_first_block(text, "MI", "M\u{406}")),
        ("padding within the base64", BASE64, |text| in_first_block(text, "MI", "M=")),
        ("too much padding", BASE64, |text| in_first_block(text, "\n-----END", "====\n-----END")),
        ("a comment within the base64", BASE64, |text| lines(text, |lines| lines.insert(2, "# a comment"))),
        ("a header within the block", BASE64, |text| lines(text, |lines| lines.insert(1, "Comment: x\n"))),
        ("indented", BASE64, |text| {
            text.lines().map(|line| format!("    {line}\n")).collect::<String>().into()
        }),
        ("tabs around lines", BASE64, |text| {
            text.lines().map(|line| format!("\t{line}\t\n")).collect::<String>().into()
        }),
        ("other dashes within the block", SECTIONS, |text| lines(text, |lines| lines.insert(2, "-----"))),
        // Damaged lines around the base64.
        ("markers in lower case", SECTIONS, |text| text.to_lowercase().into()),
        ("four dashes", SECTIONS, |text| text.replace("-----", "----").into()),
        ("four dashes at the end of the marker", SECTIONS, |text| text.replace("-----\n", "----\n").into()),
        ("six dashes", SECTIONS, |text| text.replace("-----B", "------B").into()),
        ("long dashes", SECTIONS, |text| text.replace("-----", "\u{2014}").into()),
        ("two spaces before the label", SECTIONS, |text| text.replace("BEGIN ", "BEGIN  ").into()),
        ("a space behind the label", SECTIONS, |text| {
            text.replace("CERTIFICATE-----", "CERTIFICATE -----").replace("KEY-----", "KEY -----").into()
        }),
        ("no label", SECTIONS, |text| text.replace("CERTIFICATE", "").replace("PRIVATE KEY", "").into()),
        ("another label at the end", SECTIONS, |text| text.replace("END ", "END X").into()),
        ("an unknown label", SECTIONS, |text| {
            text.replace("BEGIN ", "BEGIN X").replace("END ", "END X").into()
        }),
        ("a label that is not text", SECTIONS, |text| {
            [b"-----BEGIN \xff\xfe-----\n-----END \xff\xfe-----\n", text.as_bytes()].concat()
        }),
        ("an END line alone before it", SECTIONS, |text| format!("-----END CERTIFICATE-----\n{text}").into()),
        ("a BEGIN line alone behind it", SECTIONS, |text| {
            format!("{text}-----BEGIN CERTIFICATE-----\n").into()
        }),
        ("a title in dashes that ends something", SECTIONS, |text| {
            format!("----- END CERTIFICATE -----\n{text}").into()
        }),
        ("dashes of an editor around the second label", SECTIONS, |text| {
            format!("{text}\u{2014}BEGIN CERTIFICATE\u{2014}\nAAAA\n\u{2014}END CERTIFICATE\u{2014}\n").into()
        }),
        ("a ruler with a zero in it", SECTIONS, |text| format!("-----\0-----\n{text}").into()),
        ("a ruler of five dashes at the end", SECTIONS, |text| format!("{text}-----").into()),
        // Other encodings, and the text as other formats contain it.
        ("two byte order marks", SECTIONS, |text| format!("\u{feff}\u{feff}{text}").into()),
        ("UTF-16, little end first", SECTIONS, |text| utf16(&format!("\u{feff}{text}"), u16::to_le_bytes)),
        ("UTF-16, big end first", SECTIONS, |text| utf16(&format!("\u{feff}{text}"), u16::to_be_bytes)),
        ("UTF-16 without a mark", SECTIONS, |text| utf16(text, u16::to_le_bytes)),
        ("UTF-32", SECTIONS, |text| text.chars().flat_map(|c| u32::from(c).to_le_bytes()).collect()),
        ("in one line", SECTIONS, |text| text.replace('\n', " ").into()),
        ("line breaks written out", SECTIONS, |text| text.replace('\n', "\\n").into()),
        ("in quotes", SECTIONS, |text| format!("\"{text}\"").into()),
        ("commented out", SECTIONS, |text| {
            text.lines().map(|line| format!("# {line}\n")).collect::<String>().into()
        }),
        ("the base64 without its lines", SECTIONS, |text| {
            text.lines().filter(|line| !line.starts_with('-')).collect::<String>().into()
        }),
        ("base64 of the text", SECTIONS, |text| base64(text.as_bytes()).into()),
        // A block with other content.
        ("an empty block", [Layer::Pem, Layer::Key, Layer::Pem], |text| {
            lines(text, |lines| {
                drop(lines.drain(1..lines.iter().position(|line| line.contains("END")).unwrap()))
            })
        }),
        ("a block of white space", [Layer::Pem, Layer::Key, Layer::Pem], |text| {
            let end = |lines: &Vec<&str>| lines.iter().position(|line| line.contains("END")).unwrap();
            lines(text, |lines| drop(lines.splice(1..end(lines), [" ", "\t"])))
        }),
        ("a block of three NULs", CONTENT, |text| {
            let end = |lines: &Vec<&str>| lines.iter().position(|line| line.contains("END")).unwrap();
            lines(text, |lines| drop(lines.splice(1..end(lines), ["AAAA"])))
        }),
        ("base64 twice", CONTENT, |text| {
            let end = |lines: &Vec<&str>| lines.iter().position(|line| line.contains("END")).unwrap();
            let lines: Vec<&str> = text.lines().collect();
            let inner = base64(lines[1..end(&lines)].concat().as_bytes());
            format!("{}\n{inner}\n{}\n", lines[0], lines[end(&lines)]).into()
        }),
        ("more sections than are read", SECTIONS, |text| {
            let block = text[..text.find("END").unwrap()].trim_end_matches('-').to_owned();
            let label = &text[11..text.find("-----\n").unwrap()];
            format!("{block}-----END {label}-----\n")
                .repeat(rustls_reload::internal::pem::SECTION_LIMIT + 1)
                .into()
        }),
        ("larger than is read", [Layer::Read; 3], |text| {
            let rest = usize::try_from(FILE_LIMIT).unwrap() + 1 - text.len();
            [text.as_bytes(), &vec![b'#'; rest]].concat()
        }),
    ]
}

fn served() -> Vec<(&'static str, Edit)> {
    vec![
        ("no line break at the end", |text| text.trim_end().into()),
        ("a byte order mark", |text| format!("\u{feff}{text}").into()),
        ("CRLF", |text| text.replace('\n', "\r\n").into()),
        ("CR", |text| text.replace('\n', "\r").into()),
        ("CRLF twice over", |text| text.replace('\n', "\r\r\n").into()),
        ("blank lines around the blocks", |text| format!("\n\n{text}\n \n").into()),
        ("a title in dashes", |text| format!("----- example.test -----\n{text}").into()),
        ("rulers of dashes around", |text| {
            let ruler = "-".repeat(40);
            format!("{ruler}\nleaf\n{ruler}\n{text}{ruler}\n# ------ end ------\n{ruler}").into()
        }),
        ("parameters, a request and a public key beside it", |text| {
            let beside =
                ["DSA PARAMETERS", "X9.42 DH PARAMETERS", "NEW CERTIFICATE REQUEST", "RSA PUBLIC KEY"];
            let beside: String = beside.map(|label| crate::common::armor::block(label, &[0x30, 0])).concat();
            format!("{beside}{text}{beside}").into()
        }),
        ("text around the blocks", |text| {
            format!("Bag Attributes\n    localKeyID: 01\nsubject=CN = x\n{text}# the end\n").into()
        }),
        ("text that is not UTF-8", |text| [b"\xff\xfe caf\xe9\n", text.as_bytes()].concat()),
        ("NULs behind the end", |text| [text.as_bytes(), &[0; 512]].concat()),
        ("lines of another length", |text| {
            let mut out = String::new();
            for part in text.split_inclusive("-----\n") {
                let (body, marker) = part.split_at(part.find("-----").unwrap_or(part.len()));
                let joined = body.replace('\n', "");
                let wrapped = joined
                    .as_bytes()
                    .chunks(76)
                    .map(|line| String::from_utf8_lossy(line).into_owned() + "\n");
                out.extend(wrapped);
                out.push_str(marker);
            }
            out.into()
        }),
        ("as large as is read", |text| {
            let rest = usize::try_from(FILE_LIMIT).unwrap() - text.len();
            [text.as_bytes(), &vec![b'#'; rest]].concat()
        }),
    ]
}

/// Files of other kinds.
fn others() -> Vec<(&'static str, &'static [u8])> {
    vec![
        ("a page", b"<!DOCTYPE html>\n<html><body>404 Not Found</body></html>\n"),
        ("a message", b"error: permission denied\n"),
        ("JSON", b"{\"tls.crt\": \"LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0t\"}\n"),
        ("a pointer of git-lfs", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"),
        ("gzip", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00"),
        ("a PKCS #12 file", include_bytes!("keys/bundle.p12")),
        ("a certification request", include_bytes!("keys/request.pem")),
        ("an OpenSSH key", include_bytes!("keys/openssh.pem")),
        (
            "a block of PGP",
            b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmDMEAAAA\n=AAAA\n-----END PGP PUBLIC KEY BLOCK-----\n",
        ),
        ("a PKCS #7 block", b"-----BEGIN PKCS7-----\nMAsGCSqGSIb3DQEHAg==\n-----END PKCS7-----\n"),
        ("a CRL", b"-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----\n"),
        ("a public key", b"-----BEGIN PUBLIC KEY-----\nMAA=\n-----END PUBLIC KEY-----\n"),
        ("an age file", b"-----BEGIN AGE ENCRYPTED FILE-----\nYWdl\n-----END AGE ENCRYPTED FILE-----\n"),
    ]
}

/// Vectors that apply only to a chain or a bundle.
fn of_one_file() -> Vec<Vector> {
    let second = |file: &'static str, what: &str, expect: Expect, put: fn(&str) -> String| {
        Vector::file(file, what, expect, move |set| {
            let text = set.get(file);
            let at = text.match_indices("-----BEGIN ").nth(1).unwrap().0;
            format!("{}{}", &text[..at], put(&text[at..])).into()
        })
    };
    let mut all = Vec::new();
    for (file, layer) in [(CRT, Layer::Chain), (CA, Layer::ClientCa)] {
        let pem = Refused(Layer::Pem, file);
        let content = Refused(layer, file);
        all.extend([
            second(file, "cut after the first block", Served, |_| String::new()),
            second(file, "cut within the second block", pem, |block| block[..200].to_owned()),
            second(file, "a byte order mark before the second block", pem, |block| {
                format!("\u{feff}{block}")
            }),
            second(
                file,
                "a byte order mark and white space before the second block, which is cut",
                pem,
                |block| format!("\u{feff} {}", &block[..200]),
            ),
            second(file, "zeros from within the first dashes of the second block on", pem, |block| {
                format!("--{}", "\0".repeat(block.len() - 2))
            }),
            second(file, "the second block's base64 damaged", pem, |block| block.replacen("MI", "M*", 1)),
            second(file, "the second block no certificate", content, |block| block.replacen("MI", "AA", 1)),
            second(file, "the second block's label unknown", pem, |block| {
                block.replace("CERTIFICATE", "CERT")
            }),
            second(file, "the second block trusted for something", pem, |block| {
                block.replace("CERTIFICATE", "TRUSTED CERTIFICATE")
            }),
            second(file, "the second block labelled as of old", Served, |block| {
                block.replace("CERTIFICATE", "X509 CERTIFICATE")
            }),
            second(file, "no line break between the blocks", pem, |block| block.to_owned()),
        ]);
        all.last_mut().unwrap().put = super::Put::Files(Box::new(move |set| {
            vec![(file, set.get(file).replace("-----\n-----", "----------").into())]
        }));
    }
    all
}
