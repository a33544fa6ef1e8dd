#[larder::cached(key = "user:{id}", tll = "5m")]
async fn get_user(id: u64) -> u64 {
    id
}

fn main() {}
