#[larder::cached(key = "square:{of}")]
const fn square(of: u64) -> u64 {
    of * of
}

#[larder::evicts("square")]
struct NotAFunction;

fn main() {}
