#[larder::cached(key = "user:{id}", ttl = "5 minutes")]
async fn get_user(id: u64) -> u64 {
    id
}

#[larder::cached(key = "user:{id}", ttl = 5)]
async fn by_number(id: u64) -> u64 {
    id
}

#[larder::cached(key = "user:{id}", stale_for = "never")]
async fn never_stale(id: u64) -> u64 {
    id
}

fn main() {}
