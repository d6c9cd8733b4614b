//! Finds the paths a file uses: `use` declarations, groups unfolded, and paths written inline.

use crate::lexer::Token;

/// One used path, resolved as far as `super` and `self` go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Used {
    pub line: usize,
    pub path: Vec<String>,
    /// True if the path starts at this crate's root, false if at another crate or a local name.
    pub inside: bool,
    /// True for `use some::path::*`.
    pub glob: bool,
    /// True for `super::*` within a `mod tests`.
    pub tests_glob: bool,
}

/// The module that a file under `src/` is: `src/grpc/session.rs` is `[grpc, session]`.
pub fn module_of(file: &str) -> Vec<String> {
    let file = file.split_once('/').map_or(file, |(_, below)| below);
    let mut parts: Vec<String> =
        file.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if parts.last().is_some_and(|last| ["mod", "lib", "main"].contains(&last.as_str())) {
        parts.pop();
    }
    parts
}

/// Every path used in `tokens`, which are those of `file`.
pub fn used(file: &str, tokens: &[Token]) -> Vec<Used> {
    let mut reader =
        Reader { tokens, modules: module_of(file), open: Vec::new(), depth: 0, found: Vec::new() };
    let mut at = 0;
    while at < tokens.len() {
        at = reader.step(at);
    }
    reader.found
}

struct Reader<'a> {
    tokens: &'a [Token],
    /// The module the reader stands in.
    modules: Vec<String>,
    /// The brace depths at which inline modules were opened.
    open: Vec<usize>,
    depth: usize,
    found: Vec<Used>,
}

impl Reader<'_> {
    fn is(&self, at: usize, text: &str) -> bool {
        self.tokens.get(at).is_some_and(|token| token.is(text))
    }

    fn is_name(&self, at: usize) -> bool {
        self.tokens.get(at).is_some_and(Token::is_name)
    }

    /// Reads what starts at `at` and returns where to continue.
    fn step(&mut self, at: usize) -> usize {
        match self.tokens[at].text.as_str() {
            "{" => self.depth += 1,
            "}" => {
                self.depth = self.depth.saturating_sub(1);
                if self.open.last() == Some(&self.depth) {
                    self.open.pop();
                    self.modules.pop();
                }
            }
            "mod" if self.is_name(at + 1) && self.is(at + 2, "{") => {
                self.modules.push(self.tokens[at + 1].text.clone());
                self.open.push(self.depth);
                return at + 2;
            }
            // `use<'a>` in a return type is no import.
            "use" if !self.is(at + 1, "<") => return self.tree(at + 1, &[]),
            "extern" if self.is(at + 1, "crate") => {
                let name = self.tokens.get(at + 2).map(|token| token.text.clone());
                self.push(at, name.into_iter().collect(), false);
                return at + 3;
            }
            _ if self.starts_path(at) => {
                let mut path = vec![self.tokens[at].text.clone()];
                let mut next = at + 1;
                while self.is(next, "::") && self.is_name(next + 1) {
                    path.push(self.tokens[next + 1].text.clone());
                    next += 2;
                }
                self.push(at, path, false);
            }
            _ => {}
        }
        at + 1
    }

    /// True at the first name of an inline path of two names or more.
    fn starts_path(&self, at: usize) -> bool {
        const BEFORE_ABSOLUTE: [&str; 8] =
            ["as", "dyn", "for", "impl", "in", "mut", "return", "where"];
        if !(self.is_name(at) && self.is(at + 1, "::")) {
            return false;
        }
        if at == 0 || !self.is(at - 1, "::") {
            return true;
        }
        // `::diesel::X` is absolute, `Vec::<T>::X` and `a::b` are middles.
        let Some(before) = at.checked_sub(2).map(|i| &self.tokens[i]) else {
            return true;
        };
        BEFORE_ABSOLUTE.contains(&before.text.as_str()) || !(before.is_name() || before.is(">"))
    }

    /// Reads one branch of a `use` tree and returns the index of the token that ends it.
    fn tree(&mut self, mut at: usize, prefix: &[String]) -> usize {
        let (start, mut path) = (at, prefix.to_vec());
        while let Some(token) = self.tokens.get(at) {
            match token.text.as_str() {
                "::" => at += 1,
                "{" => {
                    at += 1;
                    while at < self.tokens.len() && !self.is(at, "}") {
                        // At least one step, so that commas are skipped.
                        at = self.tree(at, &path).max(at + 1);
                    }
                    return at + 1;
                }
                "*" => {
                    self.push(at, path, true);
                    return at + 1;
                }
                "as" => at += 2,
                _ if token.is_name() => {
                    path.push(token.text.clone());
                    at += 1;
                }
                _ => break,
            }
        }
        if at > start {
            self.push(at - 1, path, false);
        }
        at
    }

    fn push(&mut self, at: usize, path: Vec<String>, glob: bool) {
        let line = self.tokens[at].line;
        let in_tests = self.modules.iter().any(|module| module == "tests");
        let tests_glob = glob && in_tests && path == ["super"];
        let (inside, path) = self.resolve(path);
        self.found.push(Used { line, path, inside, glob, tests_glob });
    }

    fn resolve(&self, path: Vec<String>) -> (bool, Vec<String>) {
        match path.first().map(String::as_str) {
            Some("crate" | "sessiond") => (true, path[1..].to_vec()),
            Some("self" | "super") => {
                let rest =
                    path.iter().skip_while(|part| ["self", "super"].contains(&part.as_str()));
                let up = path.iter().filter(|part| *part == "super").count();
                let kept = self.modules.len().saturating_sub(up);
                (true, self.modules[..kept].iter().chain(rest).cloned().collect())
            }
            _ => (false, path),
        }
    }
}
