"""For WSGI servers, which, unlike the ``flask`` command, load no ``.env``."""

from dotenv import load_dotenv

from . import create_app

load_dotenv()
app = create_app()
