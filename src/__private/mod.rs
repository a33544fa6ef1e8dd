//! The items that the code of the attribute macros calls. They are not part of the public API:
//! `larder-macros` has exactly the version of this crate, and no other code may use them.
//!
//! - `key`: the key of a call, on the stack; `json`: arguments in keys without a template
//! - `lend`: the arguments that a load with a task of its own clones
//! - `loads`: the calls of `#[cached]`; `errors`: which error their function returns
//! - `companions`: the futures of what stands beside an async function
//! - `tags`: the tags of a call
//! - `writes`: the writes of `#[evicts]` and `#[puts]` after the body

mod companions;
mod errors;
mod json;
mod key;
mod lend;
mod loads;
mod tags;
mod writes;

pub use companions::{invalidate, peek, refresh, store, try_refresh};
pub use errors::{Fallible, LoadFailure, OwnError, WrapsError, own, wrap};
pub use key::{JsonPart, KeyBuf, KeyPart};
pub use lend::{Lend, Loan, borrowed, loan};
pub use loads::{
    at_hand, at_hand_blocking, at_hand_here, call, detached, every, here, peek_blocking, try_call,
    try_detached, try_here,
};
pub use tags::{
    blocking_view, call_tags, names, tagged, tagged_blocking, tagged_write, tagged_write_blocking,
};
pub use writes::{Evictions, put, put_blocking, store_blocking};
