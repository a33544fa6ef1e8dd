#[larder::cached(key = "user:{id}")]
async fn not_in_the_key<const N: u64>(id: u64) -> u64 {
    id + N
}

#[larder::cached(key = "user:{M}")]
async fn unknown<const N: u64>() -> u64 {
    N
}

fn main() {}
