//! Pages: sizes, and tokens bound to what is listed.

use prost::Message;

use crate::error::{Error, Result};
use crate::grpc::convert::check::Check;
use crate::model::ids::TenantId;
use crate::model::page::{DEFAULT_SIZE, MAX_SIZE, PageRequest, Position};
use crate::token::page::PageTokens;

/// A list that is being paged through: method, tenant and filter.
pub struct Listing {
    tokens: PageTokens,
    scope: Vec<u8>,
}

impl Listing {
    /// The listing that `method` makes of `tenant` with `filter`.
    pub fn new(
        tokens: PageTokens,
        method: &str,
        tenant: &TenantId,
        filter: &impl Message,
    ) -> Listing {
        Listing { tokens, scope: scope(method, tenant, filter) }
    }

    /// The page asked for.
    ///
    /// # Errors
    /// [`Error::InvalidPageToken`].
    pub fn page<P: Position>(&self, size: usize, token: &str) -> Result<PageRequest<P>> {
        if token.is_empty() {
            return Ok(PageRequest { size, after: None });
        }
        let after = self.tokens.decode(&self.scope, token).ok_or(Error::InvalidPageToken)?;
        Ok(PageRequest { size, after: Some(after) })
    }

    /// The token of the page after `last`; empty if there is none.
    pub fn next(&self, last: Option<impl Position>) -> String {
        last.map(|last| self.tokens.encode(&self.scope, last)).unwrap_or_default()
    }
}

/// What a page token or a cursor is bound to.
pub fn scope(method: &str, tenant: &TenantId, filter: &impl Message) -> Vec<u8> {
    let mut scope = format!("{method}\0{tenant}\0").into_bytes();
    scope.extend(filter.encode_to_vec());
    scope
}

/// The size of a page: 0 is the default, too many the maximum, less than nothing refused.
pub fn page_size(check: &mut Check, size: i32) -> usize {
    match usize::try_from(size) {
        Ok(0) => DEFAULT_SIZE,
        Ok(size) => size.min(MAX_SIZE),
        Err(_) => {
            check.broken("page_size", "must not be negative");
            DEFAULT_SIZE
        }
    }
}
