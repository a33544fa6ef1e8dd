//! A command in the form in which a server reads it.

use crate::decimal::{MOST_DIGITS, write_digits};
use redis::Cmd;
use std::iter;

/// What stands around an argument: its length, and the ends of two lines.
const AROUND: usize = 10;
/// The first line of a command with less than ten arguments, which nearly all have.
const COUNT: &[u8; 4] = b"*0\r\n";
/// Where that line says how many.
const DIGIT: usize = 1;

/// A command in RESP, encoded as it is made: nothing but a copy is left to do when it is sent.
#[derive(Clone)]
pub(super) struct RawCommand {
    /// How many arguments there are.
    args: usize,
    /// The line [`COUNT`], which holds for less than ten arguments, and then the arguments, the
    /// name of the command first: `*2\r\n$3\r\nGET\r\n$1\r\nk\r\n`.
    bytes: Vec<u8>,
}

/// A command that can be sent over either kind of connection.
pub(super) trait Encode: Sync {
    /// Appends the whole command to what is sent.
    fn write(&self, output: &mut Vec<u8>);

    /// The command for the driver's own connections.
    fn for_the_driver(&self) -> Cmd;
}

/// Several commands that are sent together.
pub(super) trait EncodeAll: Sync {
    /// How many commands there are, each of which has one reply.
    fn count(&self) -> usize;

    /// Appends all commands to what is sent.
    fn write(&self, output: &mut Vec<u8>);

    /// The commands for the driver's own connections.
    fn for_the_driver(&self) -> Vec<Cmd>;
}

impl<C: Encode> EncodeAll for [C] {
    fn count(&self) -> usize {
        self.len()
    }

    fn write(&self, output: &mut Vec<u8>) {
        self.iter().for_each(|command| command.write(output));
    }

    fn for_the_driver(&self) -> Vec<Cmd> {
        self.iter().map(Encode::for_the_driver).collect()
    }
}

impl<C: Encode> Encode for &C {
    fn write(&self, output: &mut Vec<u8>) {
        (**self).write(output);
    }

    fn for_the_driver(&self) -> Cmd {
        (**self).for_the_driver()
    }
}

/// What can be an argument of a command.
pub(super) trait Argument {
    fn append_to(&self, command: &mut RawCommand);
}

impl Argument for [u8] {
    fn append_to(&self, command: &mut RawCommand) {
        command.append(self);
    }
}

impl Argument for str {
    fn append_to(&self, command: &mut RawCommand) {
        command.append(self.as_bytes());
    }
}

impl Argument for String {
    fn append_to(&self, command: &mut RawCommand) {
        command.append(self.as_bytes());
    }
}

impl Argument for u64 {
    fn append_to(&self, command: &mut RawCommand) {
        command.append(decimal(*self, &mut Room::default()));
    }
}

impl Argument for usize {
    fn append_to(&self, command: &mut RawCommand) {
        command.append(decimal(*self as u64, &mut Room::default()));
    }
}

impl Argument for i64 {
    fn append_to(&self, command: &mut RawCommand) {
        command.append(self.to_string().as_bytes());
    }
}

impl<A: Argument + ?Sized> Argument for &A {
    fn append_to(&self, command: &mut RawCommand) {
        (**self).append_to(command);
    }
}

impl RawCommand {
    pub(super) fn new(name: &str) -> Self {
        Self::sized(name, 2, 2 * AROUND)
    }

    /// A command with room for `args` arguments of `bytes` bytes in total.
    pub(super) fn sized(name: &str, args: usize, bytes: usize) -> Self {
        let room = COUNT.len() + name.len() + bytes + (args + 1) * AROUND;
        let mut command = Self { args: 0, bytes: Vec::with_capacity(room) };
        command.bytes.extend_from_slice(COUNT);
        command.append(name.as_bytes());
        command
    }

    pub(super) fn arg(mut self, arg: impl Argument) -> Self {
        arg.append_to(&mut self);
        self
    }

    pub(super) fn args<A: Argument>(self, args: impl IntoIterator<Item = A>) -> Self {
        args.into_iter().fold(self, Self::arg)
    }

    fn append(&mut self, arg: &[u8]) {
        self.args += 1;
        self.bytes[DIGIT] = b'0' + (self.args % 10) as u8;
        append_argument(&mut self.bytes, arg);
    }

    /// The arguments, the name of the command first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &self.bytes[COUNT.len()..];
        iter::from_fn(move || {
            let end = rest.iter().position(|byte| *byte == b'\r')?;
            let len =
                rest[1..end].iter().fold(0, |len, digit| 10 * len + usize::from(digit - b'0'));
            let (arg, after) = rest[end + 2..].split_at(len);
            rest = &after[2..];
            Some(arg)
        })
    }
}

impl Encode for RawCommand {
    fn write(&self, output: &mut Vec<u8>) {
        if self.args < 10 {
            output.extend_from_slice(&self.bytes);
        } else {
            append_count(output, self.args);
            output.extend_from_slice(&self.bytes[COUNT.len()..]);
        }
    }

    fn for_the_driver(&self) -> Cmd {
        let mut command = Cmd::with_capacity(self.args, self.bytes.len());
        for arg in self.iter() {
            command.arg(arg);
        }
        command
    }
}

/// Appends the line with which a command of so many arguments begins.
pub(super) fn append_count(output: &mut Vec<u8>, args: usize) {
    output.extend_from_slice(line(b'*', args as u64, &mut Room::default()));
}

pub(super) fn append_argument(output: &mut Vec<u8>, arg: &[u8]) {
    output.extend_from_slice(line(b'$', arg.len() as u64, &mut Room::default()));
    output.extend_from_slice(arg);
    output.extend_from_slice(END);
}

pub(super) fn append_number(output: &mut Vec<u8>, number: u64) {
    append_argument(output, decimal(number, &mut Room::default()));
}

/// The end of a line.
const END: &[u8; 2] = b"\r\n";
/// Where the digits of a number end in the room for a line.
const DIGITS_END: usize = 1 + MOST_DIGITS;

/// Room for a line with a number: its kind, its digits and its end.
type Room = [u8; DIGITS_END + END.len()];

/// The digits of a number.
fn decimal(number: u64, room: &mut Room) -> &[u8] {
    let begin = write_digits(number, &mut room[..DIGITS_END]);
    &room[begin..DIGITS_END]
}

/// A line that says a number, such as the length of an argument.
fn line(kind: u8, number: u64, room: &mut Room) -> &[u8] {
    let begin = write_digits(number, &mut room[..DIGITS_END]) - 1;
    room[begin] = kind;
    room[DIGITS_END..].copy_from_slice(END);
    &room[begin..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(command: &RawCommand) -> Vec<u8> {
        let mut output = Vec::new();
        command.write(&mut output);
        output
    }

    #[test]
    fn a_command_is_encoded_as_the_redis_crate_encodes_it() {
        let long = "x".repeat(1234);
        let commands = [
            RawCommand::new("PING"),
            RawCommand::new("SET").arg("").arg(&b"\r\n$3\r\n\xFF"[..]).arg(&long),
            RawCommand::new("INCRBY").arg("k").arg(i64::MIN).arg(-1_i64).arg(0_i64),
            RawCommand::sized("DEL", 0, 0).args([0_u64, 9, 10, u64::MAX]).args(["a", "b"]),
            RawCommand::new("SCAN").arg(usize::MAX).args(Vec::<&str>::new()),
            RawCommand::new("DEL").args(["k"; 8]),
            RawCommand::new("DEL").args(["k"; 9]),
            RawCommand::new("DEL").args(["k"; 1234]),
        ];
        for command in commands {
            assert_eq!(written(&command), command.for_the_driver().get_packed_command());
        }
        let (mut theirs, keys) = (redis::cmd("MGET"), ["", "key", long.as_str()]);
        theirs.arg(&keys[..]);
        assert_eq!(
            written(&RawCommand::new("MGET").args(keys)),
            theirs.get_packed_command(),
            "not by way of what is decoded here"
        );
    }

    #[test]
    fn the_arguments_of_a_command_are_those_that_it_was_made_of() {
        let args = [&b"SET"[..], b"", b"\r\n$1\r\n", b"\xFF\0"];
        let command = RawCommand::new("SET").args(&args[1..]);
        assert!(command.iter().eq(args));
    }
}
