struct User(u64);

#[larder::cached(key = "user:{id}")]
fn get_user(id: u64) -> User {
    User(id)
}

fn main() {
    let User(_) = get_user(7);
}
