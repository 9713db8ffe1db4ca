"""The runbook's procedure that replaces a token, beside a client who is never refused."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from shared.bearer import Token, new_token
from tests.fixtures.api_processes import ApiProcess
from tests.fixtures.runbook import procedure, run_procedure
from tests.fixtures.waiting import wait_until


@dataclass
class Shop:
    """A client that reads and reads, with the token it has, from the process it is sent to."""

    api: ApiProcess
    secret: str
    answers: Counter[int] = field(default_factory=Counter)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Read on a thread until the block ends."""
        ended = threading.Event()

        def read() -> None:
            while not ended.is_set():
                self.answers[self.ask(self.secret)] += 1

        thread = threading.Thread(target=read, name="shop")
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join(60)

    def ask(self, secret: str) -> int:
        """Return how a read with this token is answered."""
        return self.api.client.get("/users", headers={"Authorization": f"Bearer {secret}"}).status_code

    def wait_for_answers(self) -> None:
        """Return once something was asked and answered after this call."""
        before = self.answers.total()
        wait_until(lambda: self.answers.total() >= before + 2, "the client has gone on", 60)


def test_the_runbooks_procedure_replaces_a_token_and_refuses_nobody(
    start_api: Callable[..., ApiProcess], tmp_path: Path
) -> None:
    secret, token = new_token("shop", ["write"])
    other_secret, other = new_token("wall", ["read"])
    tokens = tmp_path / "tokens"
    tokens.write_text(f"{other.entry()}\n{token.entry()}\n", encoding="utf-8")
    shop = Shop(start_api(TOKENS_FILE=str(tokens)), secret)

    def run(block: int) -> str:
        replaced = {"shop.txt": str(tmp_path / "shop.txt"), "1e57575b": token.id, "api.log": str(shop.api.log)}
        environment = {"TOKENS_FILE": str(tokens)}
        done = run_procedure(procedure("Replacing a token", block), environment, replaced=replaced)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def restart() -> None:
        before, shop.api = shop.api, start_api(TOKENS_FILE=str(tokens))
        shop.wait_for_answers()
        before.process.terminate()
        assert before.process.wait(30) == 0

    with shop.at_work():
        shop.wait_for_answers()
        assert [Token.parse(entry).name for entry in run(0).split()] == ["shop", "shop"]
        restart()
        shop.wait_for_answers()
        assert f'"token": "{token.id}"' in run(1)
        given = tmp_path / "shop.txt"
        assert given.stat().st_mode & 0o077 == 0
        shop.secret = given.read_text(encoding="utf-8").splitlines()[0].removeprefix("token ")
        shop.wait_for_answers()
        assert shop.ask(secret) == 200
        (remaining,) = map(Token.parse, run(2).split())
        assert remaining.sha256 != token.sha256
        restart()
        shop.wait_for_answers()
        assert (shop.ask(secret), shop.ask(other_secret)) == (401, 200)

    assert set(shop.answers) == {200}
    assert sorted(path.name for path in tmp_path.glob("tokens*")) == ["tokens"]
