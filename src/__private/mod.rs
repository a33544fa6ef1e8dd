//! What the code of the attribute macros calls. Not a part of the public API: `larder-macros` has
//! exactly the version of this crate, and nothing else may use these items.
//!
//! - `key`: the key of a call, on the stack; `json`: arguments in keys without a template
//! - `lend`: what a load that has a task of its own clones
//! - `loads`: the calls of `#[cached]`; `errors`: which error their function returns
//! - `writes`: what `#[evicts]` and `#[puts]` do after the body

mod errors;
mod json;
mod key;
mod lend;
mod loads;
mod writes;

pub use errors::{Fallible, LoadFailure, OwnError, WrapsError, own, wrap};
pub use key::{KeyBuf, KeyPart};
pub use lend::{Lend, lent};
pub use loads::{
    call, detached, every, here, peek, peek_blocking, try_call, try_detached, try_here,
};
pub use writes::{Evictions, put, put_blocking, store, store_blocking};
