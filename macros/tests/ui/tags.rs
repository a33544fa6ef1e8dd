#[larder::cached(key = "user:{id}", tags("users"))]
async fn get_user(id: u64) -> u64 {
    id
}

#[larder::evicts(tags("users"))]
async fn remove_users() {}

fn main() {}
