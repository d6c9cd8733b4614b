//! Cursors: the position from which a watch resumes, bound to the watch's scope. They carry no authority.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Duration};

use crate::clock::Time;
use crate::error::{Error, Outage, Result};
use crate::model::feed::{Horizon, OrderKey, Position, Span};
use crate::token::derived::DerivedKey;
use crate::token::keyring::Keyring;
use crate::token::keys::KeyCache;

/// How long a cursor is valid; the feed must keep what follows it for longer.
pub const LIFE: Duration = Duration::days(7);
/// The longest cursor, in characters.
pub const MAX_LEN: usize = 20_480;

const TAG_LEN: usize = 16;
/// Separates the parts, none of which can contain it.
const SEPARATOR: char = '/';

/// Writes and reads cursors.
pub struct Cursors {
    keys: KeyCache,
    timeline: Box<dyn Fn() -> u32 + Send + Sync>,
}

/// Writes and reads cursors with the keys of one moment, on one timeline.
struct Texts(DerivedKey, u32);

impl Cursors {
    /// Uses keys that all replicas share. `timeline` returns the newest timeline of the database: a promotion lets the
    /// new primary assign transaction ids again, so a cursor from an older timeline is meaningless.
    pub fn new(keys: KeyCache, timeline: impl Fn() -> u32 + Send + Sync + 'static) -> Cursors {
        Cursors { keys, timeline: Box::new(timeline) }
    }

    /// The newest timeline. A stream that began on another one must end.
    pub fn timeline(&self) -> u32 {
        (self.timeline)()
    }

    fn texts(&self, keyring: &Keyring, now: Time) -> Result<Texts> {
        Ok(Texts(keyring.derive("watch cursor", now)?, (self.timeline)()))
    }

    /// The cursor of `position` at `now`, in the watch described by `scope` (method, tenant, filter). Uses the keys
    /// that were read last, of whatever age, so that a watch outlives an outage.
    ///
    /// # Errors
    /// If the keyring has no current MAC key.
    pub fn write(&self, scope: &[u8], position: &Position, now: Time) -> Result<String> {
        Ok(self.texts(&self.keys.latest(), now)?.write(scope, position, now))
    }

    /// The position of a cursor that was written for this `scope` on the current timeline.
    ///
    /// # Errors
    /// [`Error::InvalidCursor`], [`Error::CursorExpired`], [`Error::Unavailable`].
    pub async fn read(&self, scope: &[u8], cursor: &str, now: Time) -> Result<Position> {
        match self.texts(&*self.keys.get().await?, now)?.read(scope, cursor, now) {
            // Another replica may have written it under a newer key.
            Err(Error::InvalidCursor) => {
                self.texts(&*self.keys.reload().await?, now)?.read(scope, cursor, now)
            }
            other => other,
        }
    }
}

impl Texts {
    fn write(&self, scope: &[u8], position: &Position, now: Time) -> String {
        let head = format!("{}/{}", now.timestamp_micros(), self.1);
        let mut text = match position {
            Position::After(seen) => format!("{head}/{}", seen.to_compact()),
            Position::Within(span, OrderKey { at, rank, id }) => format!(
                "{head}/{}/{}/{}/{rank}/{id}",
                span.from().to_compact(),
                span.to().to_compact(),
                at.timestamp_micros()
            ),
        }
        .into_bytes();
        let tag = self.0.sign(&message(scope, &text));
        text.extend(&tag.as_ref()[..TAG_LEN]);
        URL_SAFE_NO_PAD.encode(text)
    }

    fn read(&self, scope: &[u8], cursor: &str, now: Time) -> Result<Position> {
        let text = self.genuine(scope, cursor).ok_or(Error::InvalidCursor)?;
        // The tag is valid, so another release wrote this form.
        let (position, issued, timeline) = parse(&text).ok_or(Error::CursorExpired)?;
        if timeline > self.1 {
            // Another replica has seen a promotion that this one has not seen yet.
            return Err(Error::Unavailable(Outage::Unreachable("an outdated server".to_owned())));
        }
        let is_over = issued + LIFE <= now || timeline < self.1;
        if is_over { Err(Error::CursorExpired) } else { Ok(position) }
    }

    fn genuine(&self, scope: &[u8], cursor: &str) -> Option<Vec<u8>> {
        let bytes = Some(cursor).filter(|cursor| cursor.len() <= MAX_LEN)?;
        let bytes = URL_SAFE_NO_PAD.decode(bytes).ok()?;
        let (text, tag) = bytes.split_at_checked(bytes.len().checked_sub(TAG_LEN)?)?;
        let same = |expected: &hmac::Tag| {
            subtle::ConstantTimeEq::ct_eq(&expected.as_ref()[..TAG_LEN], tag).into()
        };
        self.0.find(&message(scope, text), same)?;
        Some(text.to_vec())
    }
}

fn parse(text: &[u8]) -> Option<(Position, Time, u32)> {
    let mut parts = std::str::from_utf8(text).ok()?.split(SEPARATOR);
    let (issued, timeline) = (time(parts.next()?)?, parts.next()?.parse().ok()?);
    let from = Horizon::from_compact(parts.next()?)?;
    let position = match parts.next() {
        None => Position::After(from),
        Some(to) => {
            let span = Span::new(from, Horizon::from_compact(to)?)?;
            let at = time(parts.next()?)?;
            let rank = parts.next()?.parse().ok()?;
            Position::Within(span, OrderKey { at, rank, id: parts.next()?.parse().ok()? })
        }
    };
    Some((position, issued, timeline))
}

fn message(scope: &[u8], text: &[u8]) -> Vec<u8> {
    // The text contains no NUL, so different pairs of text and scope give different bytes.
    [text, b"\0", scope].concat()
}

fn time(micros: &str) -> Option<Time> {
    DateTime::from_timestamp_micros(micros.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};
    use uuid::Uuid;

    use super::*;
    use crate::model::feed::MAX_PENDING;

    fn cursors() -> Texts {
        on_timeline(1)
    }

    fn on_timeline(timeline: u32) -> Texts {
        Texts(DerivedKey::of([hmac::Key::new(hmac::HMAC_SHA256, &[9; 32])]), timeline)
    }

    fn horizon(text: &str) -> Horizon {
        text.parse().expect("a snapshot")
    }

    fn now() -> Time {
        time("1700000000123456").expect("a time")
    }

    fn positions() -> [Position; 2] {
        let span = Span::new(horizon("10:20:10,14"), horizon("14:30:14,25")).expect("forward");
        [Position::After(horizon("10:20:10,14")), Position::Within(span, place(7))]
    }

    fn place(id: u128) -> OrderKey {
        OrderKey { at: now(), rank: u64::MAX, id: Uuid::from_u128(id) }
    }

    proptest! {
        #[test]
        fn a_cursor_returns_its_position_for_its_own_watch_only(
            scope in any::<Vec<u8>>(), other in any::<Vec<u8>>(),
        ) {
            for position in positions() {
                let cursor = cursors().write(&scope, &position, now());
                prop_assert_eq!(cursors().read(&scope, &cursor, now()).ok(), Some(position));
                prop_assert!(scope == other || cursors().read(&other, &cursor, now()).is_err());
            }
        }

        #[test]
        fn nothing_else_is_a_cursor(text in ".*") {
            prop_assert!(cursors().read(b"scope", &text, now()).is_err());
        }
    }

    #[test]
    fn no_changed_or_cut_cursor_passes() {
        let cursor = cursors().write(b"scope", &positions()[1], now());
        for at in 0..cursor.len() {
            for other in ["A", "b", "_"] {
                let mut changed = cursor.clone();
                changed.replace_range(at..=at, other);
                let read = cursors().read(b"scope", &changed, now());
                assert!(changed == cursor || matches!(read, Err(Error::InvalidCursor)));
            }
            assert!(cursors().read(b"scope", &cursor[..at], now()).is_err());
        }
    }

    #[test]
    fn a_cursor_is_good_for_seven_days() {
        let cursor = cursors().write(b"scope", &positions()[0], now());
        let last = now() + LIFE - Duration::microseconds(1);
        assert!(cursors().read(b"scope", &cursor, last).is_ok());
        let read = cursors().read(b"scope", &cursor, now() + LIFE);
        assert!(matches!(read, Err(Error::CursorExpired)));
    }

    #[test]
    fn a_cursor_from_before_a_promotion_tells_nothing_any_more() {
        let cursor = cursors().write(b"scope", &positions()[0], now());
        let read = on_timeline(2).read(b"scope", &cursor, now());
        assert!(matches!(read, Err(Error::CursorExpired)));
        let cursor = on_timeline(2).write(b"scope", &positions()[0], now());
        let read = cursors().read(b"scope", &cursor, now());
        assert!(matches!(read, Err(Error::Unavailable(_))), "it is still to be met");
    }

    #[test]
    fn the_longest_cursor_fits() {
        // As far apart as Postgres keeps transactions.
        let apart = (1 << 31) / MAX_PENDING as u64;
        let pending = |from: u64| {
            let list = (0..2 * MAX_PENDING as u64).map(|at| (from + at * apart).to_string());
            let list: Vec<String> = list.collect();
            horizon(&format!("{from}:{}:{}", u64::MAX, list.join(","))).bounded()
        };
        let first = u64::MAX - (1 << 33);
        let span = Span::new(pending(first), pending(first + apart * MAX_PENDING as u64));
        let position = Position::Within(span.expect("forward"), place(u128::MAX));
        let cursor = on_timeline(u32::MAX).write(b"scope", &position, now());
        assert!(cursor.len() <= MAX_LEN, "{}", cursor.len());
        assert!(on_timeline(u32::MAX).read(b"scope", &cursor, now()).is_ok());
    }
}
