//! I12: no session is active past its deadlines.

use crate::history::History;
use crate::judge::Judge;
use crate::record::{Micros, What};
use crate::replica::FLUSH;

/// Less than the documented leeway for clocks, since all replicas follow the clock of the database; and less than the
/// sweeper's delay, which would hide a missing check at use.
const LEEWAY: Micros = 1_000_000;

pub fn check(history: &History, judge: &mut Judge) {
    judge.declare("I12 absolute");
    judge.declare("I12 idle");
    for (id, places) in history.by_session() {
        let seen = || places.iter().filter_map(|at| history.ops[*at].answer()?.session.as_ref());
        let row = history.row(id).map(|row| row.absolute);
        let absolute = seen().map(|seen| seen.absolute).chain(row).max();
        let idle = seen().filter_map(|seen| seen.idle).max();
        let mut used: Option<(Micros, usize)> = None;
        for at in places {
            let op = &history.ops[*at];
            if matches!(op.what, What::Validate { .. }) && op.answer().is_some() {
                if let Some(deadline) = absolute.filter(|it| it + LEEWAY < op.start) {
                    judge.holds("I12 absolute", !op.is_let_in(), || {
                        (format!("active {} us after its deadline", op.start - deadline), vec![*at])
                    });
                }
                let flush = FLUSH.as_micros() as Micros;
                if let Some(((last, by), idle)) = used.zip(idle)
                    && last + idle + flush + LEEWAY < op.start
                {
                    judge.holds("I12 idle", !op.is_let_in(), || {
                        (
                            format!(
                                "active {} us after it was used, idle timeout {idle} us",
                                op.start - last
                            ),
                            vec![by, *at],
                        )
                    });
                }
            }
            // A refused call, or a validation that finds the token inactive, is not a use; any other outcome may be.
            let unused = op.is_refused()
                || op.answer().is_some_and(|it| it.verdict.is_some()) && !op.is_let_in();
            if !unused && used.is_none_or(|(last, _)| last < op.end) {
                used = Some((op.end, *at));
            }
        }
    }
}
