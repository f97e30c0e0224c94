from .test_pages import *
from .test_pages import site, page
import time
def test_dbg(site, page):
    t0=time.time()
    page.on("request", lambda r: print("%.2f"%(time.time()-t0), "req", r.url[-60:]))
    page.on("requestfailed", lambda r: print("%.2f"%(time.time()-t0), "FAILED", r.url[-60:], r.failure))
    page.on("requestfinished", lambda r: print("%.2f"%(time.time()-t0), "finished", r.url[-60:]))
    with orders(site, 2) as [first, second]:
        page.goto(site.bars(first))
        for i in range(60):
            page.wait_for_timeout(500)
    print(next(site.folder.folder.glob("web*.log")).read_text()[-3000:])
