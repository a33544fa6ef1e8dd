//! One connection to a server, and what keeps it open.
//!
//! `managed` has the connection that is open now and replaces it by the `factory`, no oftener than
//! the `backoff` allows. `source` and `endpoint` say where to connect. A `connection` knows which
//! of its commands were answered. It goes over a `driven` connection, which `open` makes with the
//! options of `tcp`, and logs in by `login`, with `tls` around it or not; or over one of the
//! driver's that was `handed_in`. A `private` connection is one caller's alone. What the server says
//! of itself is its `hello`. Over a connection of a lane the server tells of changes, which
//! `tracking` hears for a near level.

pub(super) mod backoff;
pub(super) mod calls;
#[expect(clippy::module_inception, reason = "the part that the others are about")]
pub(super) mod connection;
mod driven;
pub(super) mod endpoint;
pub(super) mod factory;
mod handed_in;
mod hello;
mod login;
pub(super) mod managed;
mod open;
pub(super) mod private;
mod resp;
mod socket;
pub(super) mod source;
mod tcp;
#[cfg(feature = "tls")]
mod tls;
pub(super) mod tracking;
mod watchdog;
mod wire;
