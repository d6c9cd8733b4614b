//! Where a database is in its life, by which a replica tells that it was restored.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A position that a replica saw committed. Of one lineage, beats only grow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabasePosition {
    /// The same in all copies of a database.
    pub origin: Uuid,
    /// Another one after each restore that was detected.
    pub lineage: Uuid,
    pub beat: i64,
}

/// What a replica remembers of the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedPosition {
    pub position: DatabasePosition,
    /// Of a process before this one, which may have had another database.
    pub from_file: bool,
}

/// What became of the database since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Continuity {
    /// It went on.
    Unbroken,
    /// A dump was restored.
    Dump,
    /// It is of an earlier time than what is remembered.
    WentBack,
    /// It was restored, and another replica has seen to that.
    Settled,
    /// It is another database than the process before used.
    Another,
}

/// What to do about a restored database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnRestore {
    /// Raise an alert.
    #[default]
    Alert,
    /// Also end all sessions from before.
    EndAll,
}

impl Continuity {
    /// Judges a database that is at `found`. `from_dump` tells that no transaction of its cluster wrote that position;
    /// `has_ended` that the saved lineage ended by a restore that was detected.
    pub fn judge(
        found: &DatabasePosition,
        from_dump: bool,
        remembered: Option<&SavedPosition>,
        has_ended: bool,
    ) -> Continuity {
        if from_dump {
            return Continuity::Dump;
        }
        let Some(SavedPosition { position, from_file }) = remembered else {
            return Continuity::Unbroken;
        };
        match () {
            () if position.origin != found.origin && *from_file => Continuity::Another,
            () if position.lineage == found.lineage && position.beat <= found.beat => {
                Continuity::Unbroken
            }
            () if position.lineage != found.lineage && has_ended => Continuity::Settled,
            () => Continuity::WentBack,
        }
    }

    /// True if the database was restored.
    pub fn is_restored(self) -> bool {
        matches!(self, Continuity::Dump | Continuity::WentBack | Continuity::Settled)
    }

    /// True if that is still to be written down.
    pub fn is_news(self) -> bool {
        matches!(self, Continuity::Dump | Continuity::WentBack)
    }

    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Continuity::Unbroken => "it went on",
            Continuity::Dump => "a dump was restored",
            Continuity::WentBack => "it is of an earlier time than was seen before",
            Continuity::Settled => "another replica detected that it was restored",
            Continuity::Another => "it is another database",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(origin: u128, lineage: u128, beat: i64) -> DatabasePosition {
        let (origin, lineage) = (Uuid::from_u128(origin), Uuid::from_u128(lineage));
        DatabasePosition { origin, lineage, beat }
    }

    #[test]
    fn only_going_back_and_another_lineage_are_a_restore() {
        let judge = |remembered, from_file, has_ended| {
            let remembered = SavedPosition { position: remembered, from_file };
            Continuity::judge(&at(1, 1, 5), false, Some(&remembered), has_ended)
        };
        assert_eq!(judge(at(1, 1, 5), true, false), Continuity::Unbroken);
        assert_eq!(judge(at(1, 1, 4), false, false), Continuity::Unbroken);
        assert_eq!(judge(at(1, 1, 6), false, false), Continuity::WentBack);
        assert_eq!(judge(at(1, 2, 1), false, true), Continuity::Settled);
        assert_eq!(judge(at(1, 2, 1), true, false), Continuity::WentBack);
        assert_eq!(judge(at(2, 2, 9), true, false), Continuity::Another);
        assert_eq!(judge(at(2, 2, 9), false, false), Continuity::WentBack);
        assert_eq!(Continuity::judge(&at(1, 1, 5), false, None, false), Continuity::Unbroken);
        assert_eq!(Continuity::judge(&at(1, 1, 5), true, None, false), Continuity::Dump);
    }
}
