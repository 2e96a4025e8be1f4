"""farthing at the borders of an application: ASGI, WSGI and Celery. Each module imports its framework itself."""
