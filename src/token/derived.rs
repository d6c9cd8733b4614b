//! Keys for texts that carry no authority: page tokens, cursors, conflict tokens.

use aws_lc_rs::hmac;

/// The keys of one kind of text, derived from the MAC keys: the first one writes and all of them read, so a text
/// outlives the rotation of the key that wrote it.
pub(super) struct DerivedKey(Vec<hmac::Key>);

impl DerivedKey {
    /// The key that writes comes first.
    pub fn of(keys: impl IntoIterator<Item = hmac::Key>) -> DerivedKey {
        DerivedKey(keys.into_iter().collect())
    }

    /// The MAC of a message to write.
    pub fn sign(&self, message: &[u8]) -> hmac::Tag {
        hmac::sign(
            self.0.first().expect("a keyring derives from the present key at least"),
            message,
        )
    }

    /// The MAC of a message to read, under the key for which `is_it` accepts the MAC.
    pub fn find(&self, message: &[u8], is_it: impl Fn(&hmac::Tag) -> bool) -> Option<hmac::Tag> {
        self.0.iter().map(|key| hmac::sign(key, message)).find(is_it)
    }
}
