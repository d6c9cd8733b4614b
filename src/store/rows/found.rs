//! Rows one by one: a damaged row does not affect the others.

use std::panic::{AssertUnwindSafe, catch_unwind};

use diesel::deserialize::{FromSqlRow, Result as Deserialized};
use diesel::expression::Selectable;
use diesel::pg::Pg;
use diesel::row::{NamedRow, Row};
use diesel::sql_types::{Timestamptz, Uuid as SqlUuid};
use uuid::Uuid;

use crate::clock::Time;
use crate::error::{Error, Result};
use crate::model::page::{Page, PageRequest};

/// The most rows that one log line names.
const MAX_NAMED: usize = 20;

/// A row with an id.
pub(in crate::store) trait StoredRow {
    const TABLE: &'static str;
    /// The column of its id.
    const ID: &'static str;
    /// The column of the time by which it is listed, if ids alone do not give the order.
    const AT: Option<&'static str>;
}

/// A row as it was read: its id, and the rest, or the driver's error.
pub(in crate::store) struct Found<R> {
    id: Uuid,
    at: Option<Time>,
    row: Deserialized<R>,
}

impl<R: StoredRow> Found<R> {
    /// Reads a row, whatever is in it but its id.
    pub fn new<'a, ST>(row: &impl Row<'a, Pg>) -> Deserialized<Found<R>>
    where
        R: FromSqlRow<ST, Pg>,
    {
        let id = NamedRow::get::<SqlUuid, Uuid>(row, R::ID)?;
        let at = R::AT.and_then(|at| NamedRow::get::<Timestamptz, Time>(row, at).ok());
        // The driver may panic at a length of very many years.
        let read = catch_unwind(AssertUnwindSafe(|| R::build_from_row(row)));
        Ok(Found { id, at, row: read.unwrap_or_else(|_| Err("the driver panicked".into())) })
    }

    /// The id of the row, however damaged the rest is.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// Its position in a list by time; `None` for a time that cannot be read.
    pub fn position(&self) -> Option<(Time, Uuid)> {
        self.at.zip(Some(self.id))
    }

    /// The value of the row.
    ///
    /// # Errors
    /// [`Error::Internal`] if it is damaged.
    pub fn read<M: TryFrom<R, Error = Error>>(self) -> Result<M> {
        let (table, id) = (R::TABLE, self.id);
        let row = self.row.map_err(|error| {
            Error::Internal(anyhow::anyhow!("row {id} of {table} cannot be read: {error}"))
        })?;
        M::try_from(row)
    }
}

/// Lets `Found<$row>` be loaded where `$row` can be. One by one, since another crate could make rows of another type
/// `Queryable`.
macro_rules! stored {
    ($row:ty as $sql:ty: $table:literal by $id:literal) => {
        stored!($row as $sql: $table by $id, None);
    };
    ($row:ty as $sql:ty: $table:literal by $id:literal, $at:literal) => {
        stored!($row as $sql: $table by $id, Some($at));
    };
    ($row:ty as $sql:ty: $table:literal by $id:literal, $at:expr) => {
        impl $crate::store::rows::found::StoredRow for $row {
            const TABLE: &'static str = $table;
            const ID: &'static str = $id;
            const AT: Option<&'static str> = $at;
        }

        impl diesel::deserialize::FromSqlRow<$sql, diesel::pg::Pg>
            for $crate::store::rows::found::Found<$row>
        {
            fn build_from_row<'a>(
                row: &impl diesel::row::Row<'a, diesel::pg::Pg>,
            ) -> diesel::deserialize::Result<Self> {
                $crate::store::rows::found::Found::new::<$sql>(row)
            }
        }
    };
}

impl<R: Selectable<Pg>> Selectable<Pg> for Found<R> {
    type SelectExpression = R::SelectExpression;

    fn construct_selection() -> R::SelectExpression {
        R::construct_selection()
    }
}

/// The values of the undamaged rows, and the ids of the others, which are logged in one line.
pub(in crate::store) fn sound<R, M>(rows: Vec<Found<R>>) -> (Vec<M>, Vec<Uuid>)
where
    R: StoredRow,
    M: TryFrom<R, Error = Error>,
{
    let (mut sound, mut damaged, mut first) = (Vec::with_capacity(rows.len()), Vec::new(), None);
    for row in rows {
        let id = row.id;
        match row.read() {
            Ok(model) => sound.push(model),
            Err(error) => {
                damaged.push(id);
                first.get_or_insert(error);
            }
        }
    }
    if let Some(error) = first {
        let (count, named) = (damaged.len(), &damaged[..damaged.len().min(MAX_NAMED)]);
        tracing::error!(%error, table = R::TABLE, count, rows = ?named, "rows cannot be read");
    }
    (sound, damaged)
}

/// Cuts `size + 1` fetched rows to a page; the extra row only proves that more follow. Damaged rows are logged and
/// skipped, so a page may have fewer.
///
/// # Errors
/// [`Error::Internal`] if more follow, and no row has a position.
pub(in crate::store) fn page<R, M, P>(
    request: PageRequest<P>,
    mut rows: Vec<Found<R>>,
    position: impl Fn(&Found<R>) -> Option<P>,
) -> Result<Page<M, P>>
where
    R: StoredRow,
    M: TryFrom<R, Error = Error>,
{
    let more = rows.len() > request.size;
    rows.truncate(request.size);
    let last = rows.iter().rev().find_map(position);
    if more && last.is_none() {
        return Err(Error::Internal(anyhow::anyhow!(
            "no row of a page of {} can be read",
            R::TABLE
        )));
    }
    Ok(Page { items: sound(rows).0, next: last.filter(|_| more) })
}
