#[larder::cached]
async fn get_user<T: ToString + Send + Sync + Clone + 'static>(id: T) -> String {
    id.to_string()
}

fn main() {}
