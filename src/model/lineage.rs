//! The position of a database in its history, by which a replica detects a restore.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A position that a replica saw committed. Of one lineage, beats only grow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabasePosition {
    /// The same in all copies of a database.
    pub origin: Uuid,
    /// Another one after each detected restore.
    pub lineage: Uuid,
    pub beat: i64,
}

/// The last position that a replica saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedPosition {
    pub position: DatabasePosition,
    /// Of an earlier process, which may have used another database.
    pub from_file: bool,
}

/// What happened to the database since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Continuity {
    /// It continued.
    Unbroken,
    /// A dump was restored.
    Dump,
    /// It is at an earlier position than the last one seen.
    WentBack,
    /// It was restored, and another replica has handled that.
    Settled,
    /// It is another database than the earlier process used.
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
    /// Judges a database that is at `found`. `from_dump` says that no transaction of its cluster wrote that position;
    /// `has_ended` that the last lineage seen ended by a detected restore.
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

    /// True if that is still to be stored.
    pub fn is_news(self) -> bool {
        matches!(self, Continuity::Dump | Continuity::WentBack)
    }

    /// As text.
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
