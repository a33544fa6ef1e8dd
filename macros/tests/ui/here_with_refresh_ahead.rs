#[larder::cached(key = "user:{id}", here, refresh_ahead = 0.8)]
async fn get_user(id: u64) -> u64 {
    id
}

#[larder::cached(key = "user:{id}", here, soft_timeout = "1s")]
async fn soft(id: u64) -> u64 {
    id
}

#[larder::cached(key = "user:{id}", here)]
fn blocking(id: u64) -> u64 {
    id
}

fn main() {}
