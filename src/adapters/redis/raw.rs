//! A command in the form in which a server reads it.

use redis::Cmd;
use std::iter;

/// What stands around an argument: its length, and the ends of two lines.
const AROUND: usize = 10;

/// A command in RESP, encoded as it is made: nothing but a copy is left to do when it is sent.
#[derive(Clone)]
pub(super) struct RawCommand {
    /// How many arguments there are. The line that says so comes first, and is written last.
    args: usize,
    /// The arguments, the name of the command first: `$3\r\nGET\r\n$1\r\nk\r\n`.
    bytes: Vec<u8>,
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
        command.append(decimal(*self, &mut [0; DIGITS]));
    }
}

impl Argument for usize {
    fn append_to(&self, command: &mut RawCommand) {
        command.append(decimal(*self as u64, &mut [0; DIGITS]));
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
        let room = name.len() + bytes + (args + 1) * AROUND;
        let mut command = Self { args: 0, bytes: Vec::with_capacity(room) };
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
        self.bytes.push(b'$');
        self.bytes.extend_from_slice(decimal(arg.len() as u64, &mut [0; DIGITS]));
        self.bytes.extend_from_slice(b"\r\n");
        self.bytes.extend_from_slice(arg);
        self.bytes.extend_from_slice(b"\r\n");
    }

    /// Appends the whole command to what is sent.
    pub(super) fn write(&self, output: &mut Vec<u8>) {
        output.push(b'*');
        output.extend_from_slice(decimal(self.args as u64, &mut [0; DIGITS]));
        output.extend_from_slice(b"\r\n");
        output.extend_from_slice(&self.bytes);
    }

    /// The arguments, the name of the command first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &self.bytes[..];
        iter::from_fn(move || {
            let end = rest.iter().position(|byte| *byte == b'\r')?;
            let len =
                rest[1..end].iter().fold(0, |len, digit| 10 * len + usize::from(digit - b'0'));
            let (arg, after) = rest[end + 2..].split_at(len);
            rest = &after[2..];
            Some(arg)
        })
    }

    /// The command for the driver's own connections.
    pub(super) fn for_the_driver(&self) -> Cmd {
        let mut command = Cmd::with_capacity(self.args, self.bytes.len());
        for arg in self.iter() {
            command.arg(arg);
        }
        command
    }
}

/// As many digits has the largest number.
const DIGITS: usize = 20;

/// The digits of a number, at the end of `room`.
fn decimal(mut number: u64, room: &mut [u8; DIGITS]) -> &[u8] {
    let mut at = DIGITS;
    loop {
        at -= 1;
        room[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &room[at..];
        }
    }
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
