#[larder::cached(key = "user:{id}", ttl = "5m", ttl = "6m")]
async fn get_user(id: u64) -> u64 {
    id
}

fn main() {}
