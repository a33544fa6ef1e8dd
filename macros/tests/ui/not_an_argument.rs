#[larder::cached(key = "user:{uid}")]
async fn get_user(id: u64) -> u64 {
    id
}

#[larder::cached(key = "user:{id}", skip(db))]
async fn skips(id: u64) -> u64 {
    id
}

fn main() {}
