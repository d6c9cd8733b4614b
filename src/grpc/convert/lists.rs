//! Pages of lists: sizes, and page tokens that are bound to the list.

use prost::Message;

use crate::error::{Error, Result};
use crate::grpc::convert::check::Check;
use crate::model::ids::TenantId;
use crate::model::page::{DEFAULT_SIZE, MAX_SIZE, Page, PageKey, PageRequest};
use crate::token::page::PageTokens;

/// The most bytes of items in a page, and of statistics. gRPC clients accept messages of 4 MiB by default.
pub const MAX_BYTES: usize = 3 << 20;
/// The overhead of an item in a repeated field, at most: its tag, and a length of up to 28 bits.
const FRAMING: usize = 5;

/// A list that a caller pages through, identified by method, tenant and filter.
pub struct Listing {
    tokens: PageTokens,
    scope: Vec<u8>,
}

impl Listing {
    /// The list of `method` for `tenant` with `filter`.
    pub fn new(
        tokens: PageTokens,
        method: &str,
        tenant: &TenantId,
        filter: &impl Message,
    ) -> Listing {
        Listing { tokens, scope: scope(method, tenant.as_str(), filter) }
    }

    /// The page that `token` continues with; the first one if it is empty.
    ///
    /// # Errors
    /// [`Error::InvalidPageToken`] if the token is not one of this list.
    pub fn page<P: PageKey>(&self, size: usize, token: &str) -> Result<PageRequest<P>> {
        if token.is_empty() {
            return Ok(PageRequest { size, after: None });
        }
        let after = self.tokens.decode(&self.scope, token).ok_or(Error::InvalidPageToken)?;
        Ok(PageRequest { size, after: Some(after) })
    }

    /// The items of the page as protobuf messages, cut to [`MAX_BYTES`] but at least one, and the token of the next
    /// page; empty if there is none. `position` returns the key that an item is sorted by.
    pub fn answer<T, M: Message, P: PageKey>(
        &self,
        page: Page<T, P>,
        position: impl Fn(&T) -> P,
        encode: impl Fn(T) -> M,
    ) -> (Vec<M>, String) {
        let (mut items, mut next) = (Vec::with_capacity(page.items.len()), page.next);
        let (mut bytes, mut last) = (0, None);
        for item in page.items {
            let at = position(&item);
            let item = encode(item);
            bytes += item.encoded_len() + FRAMING;
            if bytes > MAX_BYTES && last.is_some() {
                next = last;
                break;
            }
            last = Some(at);
            items.push(item);
        }
        let token = next.map(|last| self.tokens.encode(&self.scope, last)).unwrap_or_default();
        (items, token)
    }
}

/// The bytes that a page token or a cursor is bound to.
pub fn scope(method: &str, tenant: &str, filter: &impl Message) -> Vec<u8> {
    let mut scope = format!("{method}\0{tenant}\0").into_bytes();
    scope.extend(filter.encode_to_vec());
    scope
}

/// Checks the page size of a list without a filter.
///
/// # Errors
/// [`Error::Invalid`].
pub fn size(size: i32) -> Result<usize> {
    let mut check = Check::default();
    let size = page_size(&mut check, size);
    check.done().map(|()| size)
}

/// Checks the tenant and the page size of a list without a further filter.
///
/// # Errors
/// [`Error::Invalid`].
pub fn of_tenant(tenant: &str, size: i32) -> Result<(TenantId, usize)> {
    let mut check = Check::default();
    let tenant = check.take("tenant_id", TenantId::parse(tenant));
    let size = page_size(&mut check, size);
    let Some(tenant) = tenant else { return Err(check.failed()) };
    check.done().map(|()| (tenant, size))
}

/// The page size: 0 is the default, a larger one than the maximum is lowered to it, a negative one is refused.
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
