//! The words of a line: positional ones, then options in any order.

use std::str::FromStr;

use chrono::Duration;

/// The unread words of a line.
pub struct Words<'a> {
    plain: Vec<&'a str>,
    options: Vec<(&'a str, &'a str)>,
    rest: Vec<&'a str>,
}

impl<'a> Words<'a> {
    pub fn new(words: &[&'a str]) -> Words<'a> {
        let is_option = |word: &&&str| word.contains('=');
        let options = words.iter().filter(is_option).filter_map(|word| word.split_once('='));
        let mut plain: Vec<&str> =
            words.iter().filter(|word| !word.contains('=')).copied().collect();
        plain.reverse();
        let mut rest = words.to_vec();
        rest.reverse();
        Words { plain, options: options.collect(), rest }
    }

    /// The next positional word.
    pub fn next(&mut self, what: &str) -> Result<&'a str, String> {
        self.rest.pop();
        self.plain.pop().ok_or(format!("{what} is missing"))
    }

    pub fn parse<T: FromStr>(&mut self, what: &str) -> Result<T, String> {
        let word = self.next(what)?;
        word.parse().map_err(|_| format!("`{word}` is not {what}"))
    }

    /// Removes the option `name=value` and returns its value.
    pub fn option(&mut self, name: &str) -> Option<&'a str> {
        let at = self.options.iter().position(|(option, _)| *option == name)?;
        Some(self.options.remove(at).1)
    }

    /// Removes the word, and returns whether it was there.
    pub fn flag(&mut self, name: &str) -> bool {
        let at = self.plain.iter().position(|word| *word == name);
        at.map(|at| self.plain.remove(at)).is_some()
    }

    /// All words after those already read, unchanged.
    pub fn rest(&mut self) -> Vec<&'a str> {
        self.rest.iter().rev().copied().collect()
    }

    /// Fails if words are left.
    pub fn done(self) -> Result<(), String> {
        let left = self.plain.first().copied().or(self.options.first().map(|(name, _)| *name));
        left.map_or(Ok(()), |word| Err(format!("`{word}` has no place here")))
    }
}

pub fn number<T: FromStr>(word: &str) -> Result<T, String> {
    word.parse().map_err(|_| format!("`{word}` is not a number"))
}

/// `09:30` or `09:30:15`.
pub fn clock(word: &str) -> Result<Duration, String> {
    let parts: Vec<i64> =
        word.split(':').map(number).collect::<Result<_, _>>().map_err(|_| time(word))?;
    match parts[..] {
        [hours, minutes] => Ok(Duration::hours(hours) + Duration::minutes(minutes)),
        [hours, minutes, seconds] => Ok(Duration::seconds(hours * 3600 + minutes * 60 + seconds)),
        _ => Err(time(word)),
    }
}

fn time(word: &str) -> String {
    format!("`{word}` is no time such as 09:30")
}

/// `20s`, `5m`, `2h`.
pub fn length(word: &str) -> Result<Duration, String> {
    let wrong = || format!("`{word}` is no length such as 20s, 5m or 2h");
    let (count, unit) = word.split_at_checked(word.len().saturating_sub(1)).ok_or_else(wrong)?;
    let count: i64 = count.parse().map_err(|_| wrong())?;
    match unit {
        "s" => Ok(Duration::seconds(count)),
        "m" => Ok(Duration::minutes(count)),
        "h" => Ok(Duration::hours(count)),
        _ => Err(wrong()),
    }
}

/// `ada`, `berlin-1..20`, several with a comma, or `nobody`.
pub fn users(word: &str) -> Result<Vec<Option<String>>, String> {
    let mut users = Vec::new();
    for part in word.split(',') {
        match part.split_once("..") {
            None => users.push((part != "nobody").then(|| part.to_owned())),
            Some((first, last)) => {
                let (name, first) =
                    first.rsplit_once('-').ok_or(format!("`{part}` is no range"))?;
                let (first, last): (u32, u32) = (number(first)?, number(last)?);
                users.extend((first..=last).map(|n| Some(format!("{name}-{n}"))));
            }
        }
    }
    Ok(users)
}
