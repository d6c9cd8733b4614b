//! Counts the sessions that would end, for a dry run and for the guard `expected_max`.

use uuid::Uuid;

use super::budget::Budget;
use super::{MassTermination, MassTerminationResult, SAMPLE, TerminateMany};
use crate::error::{Error, Reason, Result};
use crate::model::session::{Session, StateFilter};
use crate::store::{requests, sessions};

/// Keys per statement of a count.
const COUNTED: usize = 10_000;

impl TerminateMany {
    /// True if the request is recorded: its first call passed the guard.
    pub(super) async fn has_begun(&self, input: &MassTermination) -> Result<bool> {
        let Some(request) = input.request else { return Ok(false) };
        let known = self.db.within(async {
            let mut conn = self.db.acquire().await?;
            requests::find(&mut conn, &[(&input.tenant, request.id)]).await
        });
        let now = self.clock.now();
        Ok(known.await?.iter().any(|known| known.holds_at(now)))
    }

    /// Counts the matching sessions; an error if there are more than expected.
    pub(super) async fn count(
        &self,
        input: &MassTermination,
        budget: &mut Budget,
    ) -> Result<MassTerminationResult> {
        let now = self.clock.now();
        let filter = input.selecting(StateFilter::Active);
        let most = input.expected_max.map_or(u64::MAX, u64::from);
        let mut counted = MassTerminationResult::default();
        let mut after = None;
        while budget.allows() {
            let page = self.db.within(async {
                let mut conn = self.db.acquire().await?;
                sessions::matching(&mut conn, &input.tenant, &filter, after, COUNTED, now).await
            });
            let keys = page.await?;
            after = keys.last().filter(|_| keys.len() == COUNTED).map(|key| key.session);
            counted.count += keys.iter().filter(|key| input.names(key)).count() as u64;
            if counted.count > most {
                return Err(exceeded(counted.count));
            }
            if after.is_none() {
                counted.complete = true;
                break;
            }
        }
        Ok(counted)
    }

    pub(super) async fn sample(&self, input: &MassTermination) -> Result<Vec<Session>> {
        let now = self.clock.now();
        let filter = input.selecting(StateFilter::Active);
        let reading = self.db.within(async {
            let mut conn = self.db.acquire().await?;
            let (of, most) = (&input.tenant, SAMPLE + 1);
            let keys = sessions::matching(&mut conn, of, &filter, None, most, now).await?;
            let named = keys.iter().filter(|key| input.names(key)).take(SAMPLE);
            let ids: Vec<Uuid> = named.map(|key| key.session).collect();
            sessions::find_all_by_id(&mut conn, of, &ids).await
        });
        let mut sample = reading.await?;
        for session in &mut sample {
            self.touches.overlay(session);
        }
        Ok(sample)
    }
}

fn exceeded(matching: u64) -> Error {
    Error::Precondition {
        reason: Reason::ExpectedMaxExceeded,
        message: "more sessions match than expected_max; none was ended".to_owned(),
        metadata: vec![("matching", matching.to_string())],
    }
}
