#[larder::cached(key = "user:{id}", refresh_ahead = 2)]
async fn too_much(id: u64) -> u64 {
    id
}

#[larder::cached(key = "user:{id}", refresh_ahead = 0.0)]
async fn too_little(id: u64) -> u64 {
    id
}

#[larder::cached(key = "user:{id}", jitter = -0.1)]
fn below_zero(id: u64) -> u64 {
    id
}

#[larder::puts("user:{id}", early = -1)]
fn below_zero_too(id: u64) -> u64 {
    id
}

#[larder::cached(key = "user:{id}", jitter = "a little")]
fn no_number(id: u64) -> u64 {
    id
}

#[larder::cached(key = "user:{id}", idle = "0s")]
fn no_time(id: u64) -> u64 {
    id
}

#[larder::cached(key = "user:{id}", idle = "1m", ttl = "1h", stale_for = "1h")]
fn both(id: u64) -> u64 {
    id
}

#[larder::cached(key = "user:{id}", errors = "text")]
fn no_function(id: u64) -> Result<u64, String> {
    Ok(id)
}

fn main() {}
