//! Server names and the pairs that hold them.

use rustls_reload::internal::pairs::{Names, normalize_dns_name};

/// Limit of lines of an input. Each line is looked up among all lines before it.
const LINES: usize = 200;

/// Assigns the name of each line `3name` to holder 3, and looks up each line as a name. Each result
/// and each refused assignment has to agree with a simple model that compares all names label by
/// label.
///
/// # Panics
/// If they disagree.
pub fn server_names(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut names = Names::default();
    let mut holders: Vec<(String, usize)> = Vec::new();
    for line in text.lines().take(LINES) {
        let holder = line.bytes().next().filter(u8::is_ascii_digit).map(|digit| usize::from(digit - b'0'));
        let name = if holder.is_some() { &line[1..] } else { line };
        if let (Some(holder), Some(usable)) = (holder, normalize_dns_name(name)) {
            assert_eq!(normalize_dns_name(&usable).as_ref(), Some(&usable), "not normal yet");
            assert!(usable.eq_ignore_ascii_case(undotted(name)), "another name: {usable}");
            let taken = holders.iter().find(|(known, _)| known.eq_ignore_ascii_case(&usable));
            let taken = taken.map(|(_, other)| *other).filter(|other| *other != holder);
            match names.give(holder, std::slice::from_ref(&usable)) {
                Ok(()) => assert_eq!(taken, None, "{usable} has two holders"),
                Err((name, other)) => assert_eq!((name, Some(other)), (usable.clone(), taken)),
            }
            if taken.is_none() {
                holders.push((undotted(name).to_owned(), holder));
            }
        }
        for query in [line, name] {
            assert_eq!(names.holder(query), reference(&holders, query), "{query:?} among {holders:?}");
        }
    }
}

fn undotted(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

/// Returns the holder of this name, label by label: first exactly, then by a wildcard.
fn reference(holders: &[(String, usize)], query: &str) -> Option<usize> {
    let query: Vec<&str> = undotted(query).split('.').collect();
    let matches = |name: &str, wildcard: bool| {
        let labels: Vec<&str> = name.split('.').collect();
        let same = |(i, (label, query)): (usize, (&&str, &&str))| {
            if wildcard && i == 0 {
                !query.is_empty() && *query != "*"
            } else {
                label.eq_ignore_ascii_case(query)
            }
        };
        (labels[0] == "*") == wildcard
            && labels.len() == query.len()
            && labels.iter().zip(&query).enumerate().all(same)
    };
    let find = |wildcard| holders.iter().find(|(name, _)| matches(name, wildcard)).map(|(_, holder)| *holder);
    find(false).or_else(|| find(true))
}
