#[derive(Clone)]
struct Team(u64);

#[larder::cached(key = "user:{id}", tags("of:{team}"), skip(team))]
async fn get_user(team: Team, id: u64) -> u64 {
    id + team.0
}

fn main() {}
