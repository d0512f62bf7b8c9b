import asyncio, random
from shop import shop
from comanda.db.statements import Statement
from comanda.errors import Deadlock
def wrap(n):
    f=getattr(Statement,n)
    async def g(self,tx,*a):
        try: return await f(self,tx,*a)
        except Deadlock as e:
            print("DL", self.name, (e.__cause__.detail or "")[:700]); raise
    setattr(Statement,n,g)
for n in ("rows","row","value","run"): wrap(n)
async def test_deadlocks(database_url, redis_url):
    async with shop(database_url, redis_url, workers=3) as here:
        goods = list((await here.sells(**{f"p{i}": 10000 for i in range(12)})).values())
        c=random.Random(2)
        baskets=[{g: c.randint(1,2) for g in c.sample(goods,3)} for _ in range(900)]
        orders=[]
        for i in range(0,900,20):
            orders += await asyncio.gather(*(here.order(b, c.choice(["pm_success","pm_success","pm_decline_X"])) for b in baskets[i:i+20]))
        await here.ended(*orders, within=60)
