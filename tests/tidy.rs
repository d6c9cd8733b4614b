//! Reads the crate's own source and holds it to the layers and habits that the compiler does not
//! know: who may use whom (`tidy/arrows.rs`), what code looks like here (`tidy/habits.rs`), what things are called
//! (`tidy/words.rs`), and that the pages name what exists (`tidy/pages.rs`).

#[path = "tidy/arrows.rs"]
mod arrows;
#[path = "tidy/fixtures.rs"]
mod fixtures;
#[path = "tidy/habits.rs"]
mod habits;
#[path = "tidy/lexer.rs"]
mod lexer;
#[path = "tidy/pages.rs"]
mod pages;
#[path = "tidy/paths.rs"]
mod paths;
#[path = "tidy/words.rs"]
mod words;

use std::fmt;
use std::fs;
use std::path::Path;

/// One broken rule: its place, its name, and what to do about it.
#[derive(Debug, PartialEq, Eq)]
struct Problem {
    file: String,
    line: usize,
    rule: &'static str,
    what: String,
}

impl Problem {
    fn new(file: &str, line: usize, rule: &'static str, what: String) -> Self {
        Self { file: file.to_owned(), line, rule, what }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: [{}] {}", self.file, self.line, self.rule, self.what)
    }
}

/// Everything wrong with the text `source` of the file at `file`, a path from the crate's root.
fn check(file: &str, source: &str) -> Vec<Problem> {
    let tokens = lexer::tokens(source);
    let mut problems = habits::check(file, source, &tokens);
    problems.extend(words::check(file, source));
    if file.starts_with("src/") {
        problems.extend(arrows::check(file, &tokens));
    }
    problems.sort_by_key(|problem| problem.line);
    problems
}

#[test]
fn every_file_keeps_the_layers_and_habits() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["src", "tests"] {
        collect(root, &root.join(folder), "rs", &mut files);
    }
    assert!(files.iter().any(|file| file == "src/lib.rs"), "found no sources under {root:?}");

    let read = |file: &String| {
        let source = fs::read_to_string(root.join(file)).expect("a listed file is readable");
        (file.clone(), source)
    };
    let sources: Vec<(String, String)> = files.iter().map(read).collect();
    let mut problems: Vec<Problem> =
        sources.iter().flat_map(|(file, source)| check(file, source)).collect();
    let of_src = sources.iter().filter(|(file, _)| file.starts_with("src/"));
    problems.extend(words::twice(of_src.map(|(file, source)| (file.as_str(), source.as_str()))));
    let texts = collect_pages(root);
    problems.extend(texts.iter().flat_map(|(file, text)| words::check(file, text)));
    problems.extend(texts.iter().flat_map(|(file, text)| pages::check(file, text, &sources)));
    let problems: Vec<String> = problems.iter().map(Problem::to_string).collect();
    assert!(problems.is_empty(), "{} to mend:\n{}\n", problems.len(), problems.join("\n"));
}

/// The pages of documentation and the contract, with their text.
fn collect_pages(root: &Path) -> Vec<(String, String)> {
    let mut files: Vec<String> =
        ["README.md", "SECURITY.md", "CHANGELOG.md", "tests/README.md", "deploy/README.md"]
            .map(str::to_owned)
            .into();
    collect(root, &root.join("docs"), "md", &mut files);
    collect(root, &root.join("proto"), "proto", &mut files);
    let text = |file: String| {
        let text = fs::read_to_string(root.join(&file)).expect("a listed file is readable");
        (file, text)
    };
    files.into_iter().map(text).collect()
}

/// Adds the files with this extension below `folder`, as paths from `root` with `/` between the parts.
fn collect(root: &Path, folder: &Path, kind: &str, files: &mut Vec<String>) {
    let mut entries: Vec<_> = fs::read_dir(folder)
        .expect("the folder is readable")
        .map(|entry| entry.expect("the entry is readable").path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            collect(root, &path, kind, files);
        } else if path.extension().is_some_and(|extension| extension == kind) {
            let relative = path.strip_prefix(root).expect("the walk stays below the root");
            let parts: Vec<_> = relative.iter().map(|part| part.to_string_lossy()).collect();
            files.push(parts.join("/"));
        }
    }
}
