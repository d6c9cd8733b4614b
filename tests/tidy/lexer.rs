//! Just enough of Rust's lexical grammar to read code without comments and the insides of strings.

/// One token: its text (a mere `"` for strings, characters and lifetimes) and the line it starts on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub text: String,
    pub line: usize,
}

impl Token {
    pub fn is(&self, text: &str) -> bool {
        self.text == text
    }

    pub fn is_name(&self) -> bool {
        self.text.starts_with(is_name_start)
    }
}

/// Splits `source` into names, `::`, single punctuation marks and placeholders for literals.
pub fn tokens(source: &str) -> Vec<Token> {
    let mut scanner = Scanner { rest: source, line: 1 };
    let mut found = Vec::new();
    while let Some(first) = scanner.rest.chars().next() {
        let line = scanner.line;
        let len = scanner.length_of_next(first);
        let text = scanner.take(len);
        if first.is_whitespace() || text.starts_with("//") || text.starts_with("/*") {
            continue;
        }
        let text = match text.contains(['"', '\'']) {
            true => "\"",
            false => text.strip_prefix("r#").unwrap_or(text),
        };
        found.push(Token { text: text.to_owned(), line });
    }
    found
}

struct Scanner<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> Scanner<'a> {
    fn take(&mut self, len: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(len);
        self.line += taken.matches('\n').count();
        self.rest = rest;
        taken
    }

    fn length_of_next(&self, first: char) -> usize {
        let rest = self.rest;
        if rest.starts_with("//") {
            return rest.find('\n').unwrap_or(rest.len());
        }
        if rest.starts_with("/*") {
            return block_comment(rest);
        }
        if first == '"' {
            return 1 + quoted(&rest[1..], '"');
        }
        if first == '\'' {
            return char_or_lifetime(rest);
        }
        if is_name_start(first) {
            return string_with_prefix(rest).unwrap_or_else(|| name(rest));
        }
        if first.is_ascii_digit() {
            return rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        }
        if rest.starts_with("::") { 2 } else { first.len_utf8() }
    }
}

fn is_name_start(c: char) -> bool {
    c.is_alphabetic() || c == '_'
}

fn name(rest: &str) -> usize {
    let body = rest.strip_prefix("r#").unwrap_or(rest);
    let end = body.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(body.len());
    rest.len() - body.len() + end
}

/// Block comments nest.
fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

/// Length up to and with the closing `quote`, stepping over escapes.
fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

fn char_or_lifetime(rest: &str) -> usize {
    let mut after = rest[1..].chars();
    match (after.next(), after.next()) {
        (Some('\\'), _) | (Some(_), Some('\'')) => 1 + quoted(&rest[1..], '\''),
        _ => 1 + name(&rest[1..]),
    }
}

/// `b"..."`, `c"..."`, `b'.'`, `r"..."`, `r#"..."#` and their combinations.
fn string_with_prefix(rest: &str) -> Option<usize> {
    let prefix = ["br", "cr", "b", "c", "r"].into_iter().find(|p| rest.starts_with(p))?;
    let body = &rest[prefix.len()..];
    if prefix.ends_with('r') {
        let hashes = body.len() - body.trim_start_matches('#').len();
        let inside = body[hashes..].strip_prefix('"')?;
        let close = format!("\"{}", "#".repeat(hashes));
        let end = inside.find(&close).map_or(inside.len(), |at| at + close.len());
        return Some(rest.len() - inside.len() + end);
    }
    let quote = body.chars().next().filter(|&c| c == '"' || (prefix == "b" && c == '\''))?;
    Some(prefix.len() + 1 + quoted(&body[1..], quote))
}
