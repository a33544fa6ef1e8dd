//! Callers that write and read for each other, under many orders of their steps.

use super::*;
use crate::sync::{Arc, Condvar, under_many_schedules};
use std::collections::VecDeque;
use std::task::{Poll, Wake, ready};

type TestCalls = Calls<u8, &'static str>;

/// A thread that waits until it is woken.
#[derive(Default)]
struct Parked {
    is_woken: Mutex<bool>,
    woken: Condvar,
}

impl Parked {
    fn wait(&self) {
        let mut is_woken = lock(&self.is_woken);
        while !*is_woken {
            is_woken = self.woken.wait(is_woken).unwrap();
        }
        *is_woken = false;
    }
}

impl Wake for Parked {
    fn wake(self: std::sync::Arc<Self>) {
        *lock(&self.is_woken) = true;
        self.woken.notify_one();
    }
}

/// A server that answers each byte by the same byte, and the socket before it.
struct Server {
    calls: TestCalls,
    output: Mutex<()>,
    input: Mutex<()>,
    answers: Mutex<(VecDeque<u8>, Option<Waker>)>,
}

impl Server {
    fn new() -> Arc<Self> {
        let calls = TestCalls::new(Drive::ByCallers);
        let (output, input, answers) = (Mutex::new(()), Mutex::new(()), Mutex::default());
        Arc::new(Self { calls, output, input, answers })
    }

    fn write(&self) {
        let _half = lock(&self.output);
        let mut commands = Vec::new();
        while self.calls.take_output(&mut commands, || None) {
            let reader = {
                let mut answers = lock(&self.answers);
                answers.0.extend(commands.drain(..));
                answers.1.take()
            };
            if let Some(reader) = reader {
                reader.wake();
            }
        }
    }

    fn read(&self, by: CallId, waker: &Waker) -> Poll<()> {
        let half = lock(&self.input);
        let answers = {
            let mut answers = lock(&self.answers);
            if answers.0.is_empty() {
                answers.1 = Some(waker.clone());
                return Poll::Pending;
            }
            std::mem::take(&mut answers.0)
        };
        let delivery = self.calls.deliver(by, answers.into_iter(), drop);
        drop(half);
        assert!(delivery.wake());
        Poll::Ready(())
    }

    /// Begins a call, and does at once what the call has to do.
    fn begin(&self, command: u8, waker: &Waker) -> CallId {
        let deadline = Instant::now();
        let request = Request { replies: 1, deadline };
        let begun = self.calls.begin(request, |output| output.push(command), waker).unwrap();
        if begun.gathers {
            waker.wake_by_ref();
        } else if self.work(begun.id, begun.roles, waker).is_ready() {
            waker.wake_by_ref();
        }
        begun.id
    }

    fn work(&self, id: CallId, roles: Roles, waker: &Waker) -> Poll<()> {
        if roles.write {
            self.write();
        }
        if roles.read { self.read(id, waker) } else { Poll::Pending }
    }

    fn poll(&self, id: CallId, waker: &Waker) -> Poll<u8> {
        loop {
            match self.calls.poll(id, waker) {
                Turn::Done(Ok(Answer::One(answer))) => return Poll::Ready(answer),
                Turn::Done(other) => panic!("{other:?}"),
                Turn::Work(roles) => ready!(self.work(id, roles, waker)),
            }
        }
    }

    fn call(&self, command: u8) {
        let parked = std::sync::Arc::new(Parked::default());
        let waker = Waker::from(parked.clone());
        let id = self.begin(command, &waker);
        loop {
            parked.wait();
            if let Poll::Ready(answer) = self.poll(id, &waker) {
                return assert_eq!(answer, command, "of another call");
            }
        }
    }

    /// A call whose caller goes away after so many polls, if it has no answer by then.
    fn call_and_leave(&self, command: u8, polls: usize) {
        let parked = std::sync::Arc::new(Parked::default());
        let waker = Waker::from(parked.clone());
        let id = self.begin(command, &waker);
        for _ in 0..polls {
            if let Poll::Ready(answer) = self.poll(id, &waker) {
                return assert_eq!(answer, command, "of another call");
            }
        }
        self.calls.leave(id);
    }
}

fn at_once(server: &Arc<Server>, work: Vec<Box<dyn FnOnce(&Server) + Send>>) {
    let threads: Vec<_> = work
        .into_iter()
        .map(|work| {
            let server = server.clone();
            shuttle::thread::spawn(move || work(&server))
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

/// No watchdog helps: a role that was not passed on is a call that never ends.
#[test]
fn every_call_gets_its_own_answer() {
    under_many_schedules(|| {
        let server = Server::new();
        at_once(
            &server,
            (0..3u8)
                .map(|task| -> Box<dyn FnOnce(&Server) + Send> {
                    Box::new(move |server| {
                        server.call(2 * task);
                        server.call(2 * task + 1);
                    })
                })
                .collect(),
        );
        assert!(server.calls.is_idle());
    });
}

#[test]
fn callers_that_go_away_pass_their_roles_on() {
    under_many_schedules(|| {
        let server = Server::new();
        at_once(
            &server,
            vec![
                Box::new(|server| server.call_and_leave(1, 0)),
                Box::new(|server| server.call_and_leave(2, 1)),
                Box::new(|server| server.call_and_leave(3, 2)),
                Box::new(|server| {
                    server.call(4);
                    server.call(5);
                }),
            ],
        );
        // What was sent and not waited for is answered before what comes now.
        server.call(6);
        assert!(server.calls.is_idle() && !server.calls.has_abandoned());
    });
}
