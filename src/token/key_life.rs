//! The states of a key: published, signing, verifying, gone. They follow from times, compared at use. Pure.
//!
//! The keys of a purpose form a sequence in time: each signs from its own time until that of the next. Every change
//! keeps this order.

use chrono::Duration;

use crate::clock::Time;
use crate::model::policy::ranges;

/// What a key signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Signs access tokens.
    Access,
    /// Makes the MACs of refresh tokens; page tokens, cursors and conflict tokens are derived from it.
    Refresh,
}

/// The times of a key's states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    pub purpose: Purpose,
    pub created_at: Time,
    /// `None` = from the beginning.
    pub signs_from: Option<Time>,
    /// It no longer signs from this time; `None` = no end is set.
    pub retires_at: Option<Time>,
    /// It no longer verifies from this time.
    pub removed_at: Option<Time>,
}

/// The state of a key at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    /// Every replica has it, but it does not sign yet.
    Published,
    /// Signs everything that is signed now.
    Signing,
    /// No longer signs; what it signed may still be valid.
    Verifying,
    /// Everything that it signed has expired, or it was removed.
    Gone,
}

/// Replicas learn late that a key retires, and their clocks differ.
const MARGIN: Duration = Duration::hours(1);

impl Purpose {
    pub const ALL: [Purpose; 2] = [Purpose::Access, Purpose::Refresh];

    /// The name in lists and options.
    pub fn name(self) -> &'static str {
        match self {
            Purpose::Access => "access",
            Purpose::Refresh => "refresh",
        }
    }

    /// The number in the database.
    pub fn number(self) -> i16 {
        match self {
            Purpose::Access => 1,
            Purpose::Refresh => 2,
        }
    }

    /// The purpose of this number.
    pub fn of(number: i16) -> Option<Purpose> {
        Purpose::ALL.into_iter().find(|purpose| purpose.number() == number)
    }

    /// The longest validity of what the key made: for an access token the highest TTL of any policy, for a refresh
    /// token the highest absolute timeout. A rotated refresh token is made with the key of that time.
    fn longest(self) -> Duration {
        Duration::seconds(match self {
            Purpose::Access => ranges::ACCESS_TOKEN_TTL.max_seconds(),
            Purpose::Refresh => ranges::ABSOLUTE_TIMEOUT.max_seconds(),
        })
    }
}

impl KeyState {
    /// The name in lists.
    pub fn name(self) -> &'static str {
        match self {
            KeyState::Published => "published",
            KeyState::Signing => "signing",
            KeyState::Verifying => "verifying",
            KeyState::Gone => "gone",
        }
    }
}

impl Life {
    /// The time from which it signs.
    pub fn begins(&self) -> Time {
        self.signs_from.unwrap_or(Time::MIN_UTC)
    }

    /// The start of its age: the time from which it signs, or its creation for a first key.
    pub fn since(&self) -> Time {
        self.signs_from.unwrap_or(self.created_at)
    }

    /// The time from which it no longer verifies; `None` = not determined yet.
    pub fn gone_at(&self) -> Option<Time> {
        let outlived = self.retires_at.map(|at| at + self.purpose.longest() + MARGIN);
        [self.removed_at, outlived].into_iter().flatten().min()
    }

    /// The state at `now`.
    pub fn state(&self, now: Time) -> KeyState {
        if self.gone_at().is_some_and(|at| at <= now) {
            KeyState::Gone
        } else if self.retires_at.is_some_and(|at| at <= now) {
            KeyState::Verifying
        } else if self.begins() > now {
            KeyState::Published
        } else {
            KeyState::Signing
        }
    }

    /// True unless it is gone.
    pub fn verifies(&self, now: Time) -> bool {
        self.gone_at().is_none_or(|at| at > now)
    }
}

/// The index of the key that signs at `now`: the last that began.
pub fn signing<'a>(lives: impl IntoIterator<Item = &'a Life>, now: Time) -> Option<usize> {
    let signing =
        lives.into_iter().enumerate().filter(|(_, life)| life.state(now) == KeyState::Signing);
    signing.max_by_key(|(at, life)| (life.begins(), *at)).map(|(at, _)| at)
}

/// The same, or the next if none signs: a clock that was ahead may have set the start of every key too late.
pub fn signer<'a>(lives: impl IntoIterator<Item = &'a Life> + Clone, now: Time) -> Option<usize> {
    signing(lives.clone(), now).or_else(|| next(lives, now))
}

/// The index of the key that takes over next.
pub fn next<'a>(lives: impl IntoIterator<Item = &'a Life>, after: Time) -> Option<usize> {
    let waiting = lives.into_iter().enumerate();
    let waiting = waiting.filter(|(_, life)| life.removed_at.is_none() && life.begins() > after);
    waiting.min_by_key(|(at, life)| (life.begins(), *at)).map(|(at, _)| at)
}

/// Adds a key to those of its purpose: it signs from its time until the next begins, and the one before it until then.
pub fn add(lives: &mut Vec<Life>, new: Life, now: Time) {
    lives.push(new);
    arrange(lives, now);
}

/// Removes a key at `now`: the key before it signs until the next begins, or the next takes over at once. Returns false
/// if no key signs then.
pub fn remove(lives: &mut [Life], which: usize, now: Time) -> bool {
    lives[which].removed_at = Some(now);
    take_over(lives, which, now)
}

/// Retires the key that signs at `now`: the next takes over at once. Returns false if no key signs then.
pub fn take_over(lives: &mut [Life], from: usize, now: Time) -> bool {
    lives[from].retires_at = Some(lives[from].retires_at.map_or(now, |at| at.min(now)));
    arrange(lives, now);
    if signing(&*lives, now).is_some() {
        return true;
    }
    let Some(next) = next(&*lives, now) else { return false };
    lives[next].signs_from = Some(now);
    arrange(lives, now);
    true
}

/// Each key that is not retired by `now` signs until the next begins. A retired key stays retired.
fn arrange(lives: &mut [Life], now: Time) {
    let stays =
        |life: &Life| life.removed_at.is_none() && life.retires_at.is_none_or(|at| at > now);
    let mut row: Vec<usize> = (0..lives.len()).filter(|at| stays(&lives[*at])).collect();
    row.sort_by_key(|at| (lives[*at].begins(), *at));
    for (place, at) in row.iter().enumerate() {
        lives[*at].retires_at = row.get(place + 1).map(|next| lives[*next].since());
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::*;

    fn at(seconds: i64) -> Time {
        DateTime::from_timestamp(seconds, 0).expect("a time")
    }

    fn life(purpose: Purpose) -> Life {
        Life { purpose, created_at: at(0), signs_from: None, retires_at: None, removed_at: None }
    }

    fn from(seconds: i64) -> Life {
        Life { signs_from: Some(at(seconds)), ..life(Purpose::Access) }
    }

    #[test]
    fn each_state_begins_and_ends_on_the_microsecond() {
        let (micro, day, year) =
            (Duration::microseconds(1), Duration::days(1), Duration::days(365));
        for (purpose, longest) in [(Purpose::Access, day), (Purpose::Refresh, year)] {
            let life =
                Life { signs_from: Some(at(100)), retires_at: Some(at(200)), ..life(purpose) };
            let gone = at(200) + longest + MARGIN;
            for (moment, before, then) in [
                (at(100), KeyState::Published, KeyState::Signing),
                (at(200), KeyState::Signing, KeyState::Verifying),
                (gone, KeyState::Verifying, KeyState::Gone),
            ] {
                assert_eq!(life.state(moment - micro), before, "{purpose:?}");
                assert_eq!(life.state(moment), then, "{purpose:?}");
            }
            assert!(life.verifies(gone - micro) && !life.verifies(gone));
            let removed = Life { removed_at: Some(at(150)), ..life };
            assert_eq!(removed.state(at(150) - micro), KeyState::Signing);
            assert_eq!(removed.state(at(150)), KeyState::Gone);
        }
        assert_eq!(life(Purpose::Access).state(Time::MIN_UTC), KeyState::Signing);
    }

    #[test]
    fn a_successor_takes_over_from_the_signing_key_and_one_between_from_both() {
        let mut lives = vec![life(Purpose::Access)];
        add(&mut lives, from(100), at(0));
        add(&mut lives, from(50), at(0));
        let times: Vec<_> = lives.iter().map(|life| (life.signs_from, life.retires_at)).collect();
        let (fifty, hundred) = (Some(at(50)), Some(at(100)));
        assert_eq!(times, [(None, fifty), (hundred, None), (fifty, hundred)]);
        assert_eq!([49, 50, 99, 100].map(|s| signing(&lives, at(s))), [0, 2, 2, 1].map(Some));
    }

    #[test]
    fn a_removed_key_leaves_its_time_to_others() {
        let mut lives = vec![life(Purpose::Access)];
        add(&mut lives, from(50), at(0));
        add(&mut lives, from(100), at(0));
        // One that waits: the first signs on until the last.
        let mut waiting = lives.clone();
        assert!(remove(&mut waiting, 1, at(10)));
        assert_eq!(waiting[0].retires_at, Some(at(100)));
        assert_eq!([49, 99, 100].map(|s| signing(&waiting, at(s))), [0, 0, 2].map(Some));
        // The one that signs: the next takes over at once.
        assert!(remove(&mut lives, 0, at(10)));
        assert_eq!([10, 49, 50, 100].map(|s| signing(&lives, at(s))), [1, 1, 1, 2].map(Some));
        // One that has signed: nothing moves.
        assert!(remove(&mut lives, 1, at(120)));
        assert_eq!(signing(&lives, at(120)), Some(2));
        // The last one.
        assert!(!remove(&mut lives, 2, at(130)));
        assert_eq!(signing(&lives, at(130)), None);
    }

    #[test]
    fn a_successor_made_while_the_clock_was_ahead_signs_once_it_is_right() {
        let mut lives = vec![life(Purpose::Access)];
        add(&mut lives, from(1_050), at(1_000));
        assert!(remove(&mut lives, 0, at(1_000)));
        // A keyring does not contain the removed key.
        let left = &lives[1..];
        assert_eq!(signing(left, at(100)), None);
        assert_eq!([100, 1_000].map(|s| signer(left, at(s))), [Some(0); 2]);
    }

    proptest! {
        #[test]
        fn whatever_is_added_and_removed_one_signs_at_any_time_and_none_comes_back(
            steps in proptest::collection::vec((any::<bool>(), 0usize..8, 0i64..100), 1..20),
        ) {
            let mut lives = vec![life(Purpose::Access)];
            for (now, (adds, which, ahead)) in steps.into_iter().enumerate() {
                let now = at(10 * i64::try_from(now).unwrap());
                let before = lives.clone();
                if adds {
                    add(&mut lives, from(now.timestamp() + ahead), now);
                } else if which < lives.len() && !remove(&mut lives, which, now) {
                    add(&mut lives, from(now.timestamp()), now);
                }
                for later in 0..300 {
                    let later = now + Duration::seconds(later);
                    let signing = lives.iter().filter(|life| life.state(later) == KeyState::Signing);
                    prop_assert_eq!(signing.count(), 1);
                }
                for (was, is) in before.iter().zip(&lives) {
                    let (was, is) = (was.state(now), is.state(now));
                    prop_assert!(was != KeyState::Gone || is == KeyState::Gone);
                    prop_assert!(was != KeyState::Verifying || is != KeyState::Signing);
                }
            }
        }
    }
}
