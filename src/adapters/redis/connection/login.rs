//! What is said to a server first.

use super::driven::DrivenConnection;
use super::endpoint::Endpoint;
use crate::adapters::redis::errors::{Failure, refused_database};
use redis::{Cmd, RedisError, Value, cmd};
use tokio::time::Instant;

/// Logs in, and chooses the version of the protocol and the database, in one round trip.
pub(super) async fn log_in(
    connection: &DrivenConnection,
    endpoint: &Endpoint,
    deadline: Instant,
) -> Result<(), Failure> {
    let first = if endpoint.resp3 { Some(hello(endpoint)) } else { auth(endpoint) };
    let select = (endpoint.db != 0).then(|| {
        let mut select = cmd("SELECT");
        select.arg(endpoint.db);
        select
    });
    let mut commands: Vec<Cmd> = first.iter().chain(&select).cloned().collect();
    // For those who look at the server's clients. Redis knows it from 7.2 on, and a refusal counts
    // for nothing.
    for (what, it_is) in
        [("LIB-NAME", env!("CARGO_PKG_NAME")), ("LIB-VER", env!("CARGO_PKG_VERSION"))]
    {
        let mut name = cmd("CLIENT");
        name.arg("SETINFO").arg(what).arg(it_is);
        commands.push(name);
    }
    let mut replies = connection.exchange_all(commands.iter(), deadline).await?.into_iter();
    if first.is_some()
        && let Some(Value::ServerError(error)) = replies.next()
    {
        let error = RedisError::from(error);
        return Err(if endpoint.resp3 {
            Failure::of_hello(error)
        } else {
            Failure::not_authenticated()
        });
    }
    match replies.next() {
        Some(Value::ServerError(_)) if select.is_some() => Err(refused_database()),
        _ => Ok(()),
    }
}

/// Chooses version 3, and logs in as well.
fn hello(endpoint: &Endpoint) -> Cmd {
    let mut hello = cmd("HELLO");
    hello.arg(3);
    if let Some(password) = &endpoint.password {
        let user = endpoint.user.as_deref().unwrap_or("default");
        hello.arg("AUTH").arg(user).arg(password.expose());
    }
    hello
}

fn auth(endpoint: &Endpoint) -> Option<Cmd> {
    let password = endpoint.password.as_ref()?;
    let mut auth = cmd("AUTH");
    if let Some(user) = &endpoint.user {
        auth.arg(user);
    }
    auth.arg(password.expose());
    Some(auth)
}
