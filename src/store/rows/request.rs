//! `requests`.

use diesel::prelude::{Queryable, Selectable};
use serde::Serialize;
use uuid::Uuid;

use super::{corrupt, hex};
use crate::clock::Time;
use crate::error::Error;
use crate::model::ids::{TenantId, UserId};
use crate::model::request::{Progress, RecordedRequest, RequestId};
use crate::store::schema::requests;

#[derive(Queryable, Selectable, Serialize)]
#[diesel(table_name = requests, check_for_backend(diesel::pg::Pg))]
pub(in crate::store) struct RequestRow {
    tenant_id: String,
    request_id: Uuid,
    #[serde(serialize_with = "hex")]
    fingerprint: Vec<u8>,
    user_id: String,
    subject_id: Option<Uuid>,
    related_ids: Vec<Uuid>,
    created_at: Time,
    done_count: Option<i64>,
    complete: Option<bool>,
}

impl From<&RecordedRequest> for RequestRow {
    fn from(request: &RecordedRequest) -> RequestRow {
        RequestRow {
            tenant_id: request.tenant.to_string(),
            request_id: request.request.id,
            fingerprint: request.request.fingerprint.to_vec(),
            user_id: request.user.as_ref().map(ToString::to_string).unwrap_or_default(),
            subject_id: request.subject,
            related_ids: request.related.clone(),
            created_at: request.at,
            done_count: None,
            complete: None,
        }
    }
}

impl TryFrom<RequestRow> for RecordedRequest {
    type Error = Error;

    fn try_from(row: RequestRow) -> Result<RecordedRequest, Error> {
        let id = row.request_id;
        let bad = |column| move || corrupt("requests", column, id);
        let user = Some(row.user_id).filter(|user| !user.is_empty());
        Ok(RecordedRequest {
            tenant: TenantId::parse(&row.tenant_id).map_err(|_| bad("tenant_id")())?,
            request: RequestId {
                id,
                fingerprint: row.fingerprint.try_into().map_err(|_| bad("fingerprint")())?,
            },
            user: user.map(|u| UserId::parse(&u)).transpose().map_err(|_| bad("user_id")())?,
            subject: row.subject_id,
            related: row.related_ids,
            at: row.created_at,
        })
    }
}

impl TryFrom<RequestRow> for Progress {
    type Error = Error;

    fn try_from(row: RequestRow) -> Result<Progress, Error> {
        let count = u64::try_from(row.done_count.unwrap_or(0))
            .map_err(|_| corrupt("requests", "done_count", row.request_id))?;
        let complete = row.complete.unwrap_or(false);
        Ok(Progress { request: row.try_into()?, count, complete })
    }
}
