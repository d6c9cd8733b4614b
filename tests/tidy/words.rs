//! Terms: no two public types of one name, and none of the words for which `docs/GLOSSARY.md` has another term.

use std::collections::BTreeMap;

use crate::Problem;

/// Words that are not used, and what to use instead.
const PRIVATE: [(&str, &str); 8] = [
    ("by heart", "cached"),
    ("by_heart", "cached"),
    ("heard of", "received"),
    ("told of", "informed about, or the event's own name"),
    ("whoever", "the caller, the reader: name it"),
    ("whomever", "the caller, the reader: name it"),
    ("passed over", "skipped"),
    ("passed_over", "skipped"),
];

const KINDS: [&str; 5] = ["struct", "enum", "trait", "type", "union"];

/// The unwanted words in a file of `src/`, `tests/` or `docs/`. Skips the files that list them.
pub fn check(file: &str, source: &str) -> Vec<Problem> {
    if file == "tests/tidy/words.rs" || file == "tests/tidy/fixtures.rs" {
        return Vec::new();
    }
    let mut problems = Vec::new();
    for (at, line) in source.lines().enumerate() {
        let line = line.to_lowercase();
        for (word, instead) in PRIVATE.iter().filter(|(word, _)| line.contains(word)) {
            let what = format!("not `{word}`: {instead}");
            problems.push(Problem::new(file, at + 1, "words", what));
        }
    }
    problems
}

/// Type names that several files declare, outside of functions and `mod tests`, visible to other modules. A reader can
/// meet both types, so the names must differ.
pub fn twice<'a>(files: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<Problem> {
    let mut places: BTreeMap<String, Vec<(&str, usize)>> = BTreeMap::new();
    for (file, source) in files {
        for (at, line) in source.lines().enumerate() {
            if let Some(name) = declared(line) {
                places.entry(name).or_default().push((file, at + 1));
            }
        }
    }
    let several = places.iter().filter(|(_, places)| places.len() > 1);
    let problem = |(name, places): (&String, &Vec<(&str, usize)>)| {
        let all: Vec<String> = places.iter().map(|(file, line)| format!("{file}:{line}")).collect();
        let what = format!("`{name}` is declared {} times: {}", places.len(), all.join(", "));
        Problem::new(places[0].0, places[0].1, "names", what)
    };
    several.map(problem).collect()
}

/// The type that this line declares at the left margin, if other modules see it.
fn declared(line: &str) -> Option<String> {
    let rest = line.strip_prefix("pub")?;
    let rest = match rest.strip_prefix('(') {
        Some(rest) => rest.split_once(')')?.1,
        None => rest,
    };
    let mut words = rest.split_whitespace();
    let name = words.find(|word| *word != "unsafe" && *word != "auto")?;
    if !KINDS.contains(&name) {
        return None;
    }
    let name = words.next()?;
    let end = name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len());
    Some(name[..end].to_owned())
}
