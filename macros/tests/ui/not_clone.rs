struct Db;

#[larder::cached(key = "user:{id}", skip(db))]
async fn get_user(db: &Db, id: u64) -> u64 {
    let _ = db;
    id
}

fn main() {}
