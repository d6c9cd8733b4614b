//! Reads fenced blocks, and compares the output they show with the real one.

/// A fenced block.
pub struct Block<'a> {
    /// The `##` heading above it.
    pub section: &'a str,
    /// The text after the opening fence.
    pub language: &'a str,
    /// The lines between the fences.
    pub text: &'a str,
}

/// All fenced blocks, in order.
///
/// # Panics
/// On a block without an end.
pub fn blocks(markdown: &str) -> Vec<Block<'_>> {
    const FENCE: &str = "\n```";
    let mut found = Vec::new();
    let mut rest = markdown;
    let mut section = "";
    while let Some((before, after)) = rest.split_once(FENCE) {
        section =
            before.lines().filter_map(|l| l.strip_prefix("## ")).next_back().unwrap_or(section);
        let (language, body) = after.split_once('\n').expect("a line after a fence");
        let (text, after) = body.split_once(FENCE).expect("a block has an end");
        found.push(Block { section, language, text });
        rest = after;
    }
    found
}

/// The first part of `shown` that is not in `printed`, in order. `...` stands for anything, and
/// white space counts as one space.
pub fn missing(shown: &str, printed: &str) -> Option<String> {
    let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let printed = plain(printed);
    let mut rest = printed.as_str();
    for part in plain(shown).split("...").map(str::trim) {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return Some(part.to_owned()),
        }
    }
    None
}

#[test]
fn what_is_shown_must_be_printed_in_order() {
    let printed = "{\n  \"a\": 1,\n  \"b\": \"xyz\"\n}\n";
    assert_eq!(missing("{ \"a\": 1, ... }", printed), None);
    assert_eq!(missing("\"b\": \"x...\"", printed), None);
    assert_eq!(missing("", printed), None);
    assert_eq!(missing("\"b\": ... \"a\": 1", printed), Some("\"a\": 1".to_owned()));
}

#[test]
fn blocks_know_their_section_and_language() {
    let found = blocks("# t\n## One\n\n```sh\na\nb\n```\n\n## Two\n```text\nc\n```\n");
    let seen: Vec<_> = found.iter().map(|b| (b.section, b.language, b.text)).collect();
    assert_eq!(seen, [("One", "sh", "a\nb"), ("Two", "text", "c")]);
}
