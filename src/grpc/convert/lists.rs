//! Pages: sizes, and tokens bound to what is listed.

use prost::Message;

use crate::error::{Error, Result};
use crate::grpc::convert::check::Check;
use crate::model::ids::TenantId;
use crate::model::page::{DEFAULT_SIZE, MAX_SIZE, Page, PageKey, PageRequest};
use crate::token::page::PageTokens;

/// The most bytes of items in a page. Clients of gRPC take messages of 4 MiB unless told otherwise.
const MAX_BYTES: usize = 3 << 20;
/// What a repeated field adds to each item at most: its tag, and a length of up to 28 bits.
const FRAMING: usize = 5;

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
        Listing { tokens, scope: scope(method, tenant.as_str(), filter) }
    }

    /// The page asked for.
    ///
    /// # Errors
    /// [`Error::InvalidPageToken`].
    pub fn page<P: PageKey>(&self, size: usize, token: &str) -> Result<PageRequest<P>> {
        if token.is_empty() {
            return Ok(PageRequest { size, after: None });
        }
        let after = self.tokens.decode(&self.scope, token).ok_or(Error::InvalidPageToken)?;
        Ok(PageRequest { size, after: Some(after) })
    }

    /// The items of the page as the protocol writes them, up to [`MAX_BYTES`] of them, and the token of the page that
    /// follows; empty if there is none. `position` says where an item stands.
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

/// What a page token or a cursor is bound to.
pub fn scope(method: &str, tenant: &str, filter: &impl Message) -> Vec<u8> {
    let mut scope = format!("{method}\0{tenant}\0").into_bytes();
    scope.extend(filter.encode_to_vec());
    scope
}

/// The size of a page of a list that has no filter.
///
/// # Errors
/// [`Error::Invalid`].
pub fn size(size: i32) -> Result<usize> {
    let mut check = Check::default();
    let size = page_size(&mut check, size);
    check.done().map(|()| size)
}

/// The tenant and the size of a page of a list that has no other filter.
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
