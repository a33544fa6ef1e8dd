//! Connections, runtimes, and futures that are dropped half-way.

pub(crate) use super::later::later_writes_win;
use super::*;
use futures_util::FutureExt;
use std::task::Poll;

async fn works(f: &Fixture, when: &str) -> Outcome {
    f.put("works", when.to_owned()).await.map_err(|error| Failure::from(error).prefixed(when))?;
    check_eq!(f.text("works").await?.as_deref(), Some(when), "a value set {when}");
    Ok(())
}

pub(crate) async fn backend_is_named(f: &Fixture) -> Outcome {
    check!(!f.backend().trim().is_empty(), "kind is empty");
    Ok(())
}

pub(crate) async fn connect_and_ping(f: &Fixture) -> Outcome {
    f.connect().await?;
    f.connect().await?;
    f.ping().await?;
    f.at_once(8, |f, _| async move { Ok(f.connect().await?) }).await?;
    works(f, "after connect").await?;
    f.ping().await?;
    Ok(())
}

pub(crate) async fn close_is_idempotent(f: &Fixture) -> Outcome {
    f.close().await?;
    f.close().await?;
    works(f, "after two closes of what was never opened").await?;
    f.close().await?;
    f.close().await?;
    Ok(())
}

pub(crate) async fn works_after_close(f: &Fixture) -> Outcome {
    f.put("k", "before").await?;
    f.close().await?;
    let found = f.text("k").await?;
    check!(
        found.is_none() || found.as_deref() == Some("before"),
        "a value from before the close reads {found:?}"
    );
    works(f, "after close").await?;
    f.close().await?;
    f.ping().await?;
    f.close().await?;
    f.connect().await?;
    works(f, "after close and connect").await
}

pub(crate) async fn reconnects(f: &Fixture) -> Outcome {
    f.reconnect().await?;
    works(f, "after reconnect").await?;
    f.reconnect().await?;
    f.reconnect().await?;
    works(f, "after two more").await
}

pub(crate) async fn close_amid_work(f: &Fixture) -> Outcome {
    // An operation that races with a close may fail; none may hang, and none may answer for another
    // key.
    f.at_once(8, |f, task| async move {
        for round in 0..20 {
            let key = format!("{task} {round}");
            if task == 0 {
                f.close().await?;
            } else if f.put(&key, key.clone()).await.is_ok()
                && let Ok(found) = f.text(&key).await
            {
                check!(found.is_none() || found.as_ref() == Some(&key), "{key} reads {found:?}");
            }
        }
        Ok(())
    })
    .await?;
    works(f, "after closes amid work").await
}

pub(crate) async fn rebuilds(f: &Fixture) -> Outcome {
    works(f, "before rebuild").await?;
    let rebuilt = f.with(f.rebuild()?);
    check_eq!(rebuilt.backend(), f.backend(), "kind of the rebuilt");
    works(&rebuilt, "on the rebuilt").await?;
    rebuilt.close().await?;
    works(f, "on the old, after the rebuilt was closed").await?;
    f.close().await?;
    works(&rebuilt, "on the rebuilt, after the old was closed").await
}

pub(crate) async fn get_if_ready_agrees(f: &Fixture) -> Outcome {
    let agree = |key: &'static str, expected: Option<&'static str>| async move {
        if let Poll::Ready(answer) = f.found_now(key) {
            check_eq!(decoded::<String>(answer?)?.as_deref(), expected, "get_if_ready of {key:?}");
        }
        check_eq!(f.text(key).await?.as_deref(), expected, "get of {key:?}");
        Ok::<(), Failure>(())
    };
    agree("k", None).await?;
    for value in ["a", "b"] {
        f.put("k", value).await?;
        agree("k", Some(value)).await?;
    }
    f.remove("k").await?;
    agree("k", None).await?;
    f.put_for("k", "v", Duration::ZERO).await?;
    agree("k", None).await?;
    f.put_for("k", "v", f.suite.short()).await?;
    f.outlive_short().await?;
    agree("k", None).await?;
    f.put("k", "v").await?;
    f.clear("").await?;
    agree("k", None).await
}

pub(crate) async fn dropped_futures(f: &Fixture) -> Outcome {
    for round in 0..5 {
        let one = || CacheValue::new(1);
        let (key, entries) = (
            format!("dropped {round}"),
            [Entry::new("a", one(), LONG), Entry::new("b", one(), LONG)],
        );
        // Each is polled once, and dropped: what has not answered by then is abandoned in the
        // middle.
        drop(f.get(&key).now_or_never());
        drop(f.set(&key, one(), LONG).now_or_never());
        drop(f.remove(&key).now_or_never());
        drop(f.update_timeout(&key, LONG).now_or_never());
        drop(f.add(&key, one(), LONG).now_or_never());
        drop(f.replace(&key, one(), LONG).now_or_never());
        drop(f.incr(&key, 1, LONG).now_or_never());
        drop(f.take(&key).now_or_never());
        drop(f.expiry(&key).now_or_never());
        drop(f.contains(&key).now_or_never());
        drop(f.touch(&key, LONG).now_or_never());
        drop(f.get_many(&["a", "b"]).now_or_never());
        drop(f.get_near(&key).now_or_never());
        drop(f.get_many_near(&["a", "b"]).now_or_never());
        drop(f.get_far(&key).now_or_never());
        drop(f.get_many_far(&["a", "b"]).now_or_never());
        drop(f.set_many(&entries).now_or_never());
        drop(f.remove_many(&["a", "b"]).now_or_never());
        drop(f.clear("dropped").now_or_never());
        drop(f.connect().now_or_never());
        drop(f.ping().now_or_never());
        let done =
            tokio::time::timeout(Duration::from_secs(5), works(f, "after futures were dropped"))
                .await;
        check!(done.is_ok(), "the adapter hangs after futures were dropped");
        done.unwrap_or(Ok(()))?;
        drop(f.close().now_or_never());
        drop(f.reconnect().now_or_never());
        works(f, "after a close was dropped").await?;
    }
    Ok(())
}

pub(crate) async fn cancelled_reads_do_not_cross(f: &Fixture) -> Outcome {
    let seed = model::seed();
    for number in 0..100 {
        f.put(&format!("k{number}"), number).await?;
    }
    f.at_once(8, move |f, task| async move {
        let mut random = fastrand::Rng::with_seed(seed ^ task as u64);
        for _ in 0..100 {
            let number = random.i32(0..100);
            let deadline = Duration::from_micros(random.u64(..250));
            if let Ok(found) =
                tokio::time::timeout(deadline, f.read::<i32>(&format!("k{number}"))).await
            {
                check_eq!(
                    found?,
                    Some(number),
                    "seed {seed}: get of k{number} amid cancelled ones"
                );
            }
        }
        Ok(())
    })
    .await?;
    for number in 0..100 {
        check_eq!(
            f.read::<i32>(&format!("k{number}")).await?,
            Some(number),
            "seed {seed}: get of k{number} after cancelled ones"
        );
    }
    Ok(())
}

pub(crate) async fn outlives_a_runtime(f: &Fixture) -> Outcome {
    works(f, "before").await?;
    for _ in 0..3 {
        f.elsewhere(|f| async move { works(&f, "on a runtime of its own").await }).await?;
        works(f, "after another runtime ended").await?;
    }
    Ok(())
}

pub(crate) async fn serves_runtimes_at_once(f: &Fixture) -> Outcome {
    f.at_once(4, |f, task| async move {
        f.elsewhere(move |f| async move {
            for round in 0..50 {
                let key = format!("{task} {round}");
                f.put(&key, key.clone()).await?;
                check_eq!(
                    f.text(&key).await?.as_ref(),
                    Some(&key),
                    "a value that one of four runtimes set"
                );
            }
            Ok(())
        })
        .await
    })
    .await?;
    works(f, "after four other runtimes").await
}
