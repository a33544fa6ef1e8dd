#[larder::cached(key = "user:{id}", cache = cache)]
fn blocking(cache: &larder::AsyncCacheWrapper, id: u64) -> u64 {
    id
}

fn main() {}
