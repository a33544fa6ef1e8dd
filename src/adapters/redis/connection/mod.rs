//! One connection to a server, and what keeps it open.
//!
//! `managed` has the connection that is open now and replaces it by the `factory`, no oftener than
//! the `backoff` allows. A `connection` knows which of its commands were answered; `driver` runs
//! the driver over a `stream` whose `replies` have bounds, with `tls` around it or not. `source`
//! and `endpoint` say where to connect.

pub(super) mod backoff;
#[expect(clippy::module_inception, reason = "the part that the others are about")]
pub(super) mod connection;
pub(super) mod driver;
pub(super) mod endpoint;
pub(super) mod factory;
pub(super) mod managed;
mod replies;
pub(super) mod source;
mod stream;
#[cfg(feature = "tls")]
mod tls;
