//! Plain types and state machines. No I/O, no clock, no SQL, no protobuf.

/// Declares a field-less enum whose numbers are those of the database and of the protocol.
macro_rules! numbered {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $number:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(i16)]
        pub enum $name { $($(#[$vdoc])* $variant = $number),* }

        impl $name {
            /// The value with this number, if there is one.
            pub fn from_number(number: i32) -> Option<$name> {
                match number { $($number => Some($name::$variant),)* _ => None }
            }
        }
    };
}

pub mod activity;
pub mod administration;
pub mod alert;
pub mod caller;
pub mod claims;
pub mod conflict;
pub mod detection;
pub mod device;
pub mod evidence;
pub mod feed;
pub mod freshness;
pub mod ids;
pub mod lineage;
pub mod page;
pub mod policy;
pub mod request;
pub mod revocation;
pub mod session;
pub mod statistics;
pub mod token;
pub mod user_device;
pub mod watermark;
