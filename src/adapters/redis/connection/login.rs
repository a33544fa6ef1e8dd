//! What is said to a server first.

use super::driven::DrivenConnection;
use super::endpoint::Endpoint;
use crate::adapters::redis::errors::{Failure, refused_database};
use crate::adapters::redis::raw::RawCommand;
use crate::adapters::redis::reply::Reply;
use tokio::time::Instant;

/// Logs in, and chooses the version of the protocol and the database, in one round trip.
pub(super) async fn log_in(
    connection: &DrivenConnection,
    endpoint: &Endpoint,
    deadline: Instant,
) -> Result<(), Failure> {
    let first = if endpoint.resp3 { Some(hello(endpoint)) } else { auth(endpoint) };
    let select = (endpoint.db != 0).then(|| RawCommand::new("SELECT").arg(u64::from(endpoint.db)));
    let mut commands: Vec<RawCommand> = first.iter().chain(&select).cloned().collect();
    // For those who look at the server's clients. Redis knows it from 7.2 on, and a refusal counts
    // for nothing.
    for (what, it_is) in
        [("LIB-NAME", env!("CARGO_PKG_NAME")), ("LIB-VER", env!("CARGO_PKG_VERSION"))]
    {
        commands.push(RawCommand::new("CLIENT").args(["SETINFO", what, it_is]));
    }
    let mut replies = connection.exchange_all(&commands[..], deadline).await?.into_iter();
    if first.is_some()
        && let Some(Reply::Error(error)) = replies.next()
    {
        return Err(if endpoint.resp3 {
            Failure::of_hello(error)
        } else {
            Failure::not_authenticated()
        });
    }
    match replies.next() {
        Some(Reply::Error(_)) if select.is_some() => Err(refused_database()),
        _ => Ok(()),
    }
}

/// Chooses version 3, and logs in as well.
fn hello(endpoint: &Endpoint) -> RawCommand {
    let hello = RawCommand::new("HELLO").arg("3");
    let Some(password) = &endpoint.password else { return hello };
    let user = endpoint.user.as_deref().unwrap_or("default");
    hello.args(["AUTH", user, password.expose()])
}

fn auth(endpoint: &Endpoint) -> Option<RawCommand> {
    let password = endpoint.password.as_ref()?;
    Some(RawCommand::new("AUTH").args(&endpoint.user).arg(password.expose()))
}
