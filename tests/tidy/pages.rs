//! What the pages of documentation name exists: files, and items such as `SessionKey::nowhere`.

use crate::Problem;

/// Names in backticks in a page that no source has. `sources` are paths with their text.
pub fn check(file: &str, page: &str, sources: &[(String, String)]) -> Vec<Problem> {
    if !file.ends_with(".md") {
        return Vec::new();
    }
    let mut problems = Vec::new();
    for (at, line) in page.lines().enumerate() {
        // Between backticks is every second part.
        for name in line.split('`').skip(1).step_by(2) {
            if is_missing(name, sources) {
                let what = format!("no source has `{name}`");
                problems.push(Problem::new(file, at + 1, "pages", what));
            }
        }
    }
    problems
}

fn is_missing(name: &str, sources: &[(String, String)]) -> bool {
    if let Some(stem) = name.strip_suffix(".rs") {
        let plain = stem.bytes().all(|b| b.is_ascii_alphanumeric() || b"_/".contains(&b));
        return plain && !sources.iter().any(|(path, _)| names(path, name));
    }
    let Some((owner, item)) = name.split_once("::") else { return false };
    let is_type = owner.starts_with(|c: char| c.is_ascii_uppercase());
    let word = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !is_type || !word(owner) || !word(item) {
        return false;
    }
    let declares = |kind: &str, text: &str| text.contains(&format!("{kind} {owner}"));
    let owned = sources.iter().filter(|(_, text)| {
        ["struct", "enum", "trait", "impl"].iter().any(|kind| declares(kind, text))
    });
    !owned.into_iter().any(|(_, text)| text.contains(item))
}

/// A page writes `src/grpc/auth.rs`, `grpc/auth.rs`, or `auth.rs` beside its folder; tests by their whole path.
fn names(path: &str, name: &str) -> bool {
    let within = path.strip_prefix("src/").unwrap_or_default();
    path == name || within == name || within.ends_with(&format!("/{name}"))
}

#[test]
fn a_page_names_only_what_there_is() {
    let sources = [
        (
            "src/edge/slots.rs".to_owned(),
            "pub struct Slots;\nimpl Slots { fn take() {} }".to_owned(),
        ),
        ("tests/it/places.rs".to_owned(), String::new()),
    ];
    let wrong = |text: &str| check("docs/a.md", text, &sources).len();
    assert_eq!(wrong("`slots.rs`, `edge/slots.rs`, `src/edge/slots.rs`, `tests/it/places.rs`"), 0);
    assert_eq!(wrong("`places.rs` and `edge/places.rs`, `src/slots.rs`"), 3);
    assert_eq!(wrong("`Slots::take`, `cargo test`, `std::fs`, `*.rs`"), 0);
    assert_eq!(wrong("`Slots::give`, `Places::take`"), 2);
    assert!(check("proto/a.proto", "`places.rs`", &sources).is_empty());
}
